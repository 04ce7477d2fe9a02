"""Sign-up and sign-in with organisations: what the users service does, and who belongs where."""
