"""Users and their sessions: who registers and signs in gets the tokens that the gateway verifies."""
