"""What everything that speaks to Kafka has in common: how its clients are set up, and how topics are made."""
