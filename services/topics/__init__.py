"""Services behind Kafka: events that leave by an outbox, and requests that come as messages. Knows no service."""
