"""What the health page counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Meter"]


class Meter:
    """``running``: generations under way. ``produced``: tokens that the built-in model has made since the start."""

    def __init__(self) -> None:
        self.running = 0
        self.produced = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one generation while it runs, however it ends."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
