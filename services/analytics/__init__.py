"""Analytics: takes the gateway's events, each once, and answers who uses what, how fast and how well."""
