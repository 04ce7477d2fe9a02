"""The upstream side of the data plane: targets, balancing, health, breakers, retries, hedges. Start with ``pool``."""
