"""What the services make, kept: a folder or S3, with links that expire. Knows no service."""
