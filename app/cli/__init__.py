"""The command ``tidegate``."""

from app.cli.commands import main

__all__ = ["main"]
