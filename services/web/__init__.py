"""What every reference service needs of HTTP: settings, callers, errors, limits, streams. Knows no service."""
