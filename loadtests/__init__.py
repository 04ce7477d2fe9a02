"""Load tests: black box. They start the gateway as its users do and know it by its wire alone."""
