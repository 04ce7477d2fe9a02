"""A service's database: SQLite or PostgreSQL by URL, migrated when it is first reached. Knows no service."""
