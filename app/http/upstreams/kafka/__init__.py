"""Requests and answers over Kafka: an upstream like any other, behind topics instead of connections."""
