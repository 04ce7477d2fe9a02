"""How far a connection's reading has come. Pure."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Enough", "Part"]


class Part(Enum):
    """What is expected next."""

    NOTHING = auto()
    """The first byte of a request."""
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()
    """Nothing is looked at any more."""


class Enough(Exception):
    """More has come than is looked at."""
