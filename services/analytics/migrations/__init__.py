"""Each module is one step."""
