"""A small OpenAI-compatible chat service: a real language model that needs no network, or a bridge to a larger one."""
