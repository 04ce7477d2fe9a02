"""A small image service: draws what a prompt's words suggest, step by step, without a network or a model's weights."""
