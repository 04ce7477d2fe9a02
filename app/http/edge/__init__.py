"""Where requests come in and answers go out: what is refused, what browsers are told, how answers are packed."""
