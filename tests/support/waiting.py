"""Waiting for what no event announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["eventually"]


async def eventually(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Look again and again until ``condition`` holds. Raises ``TimeoutError`` after so many seconds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)
