"""The time of a whole request, with all its tries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from app.errors import UpstreamTimeout

__all__ = ["in_time"]

_T = TypeVar("_T")


async def in_time(sending: Awaitable[_T], deadline: float) -> _T:
    """Return what ``sending`` returns. Raises :exc:`~app.errors.UpstreamTimeout` at ``deadline`` (the loop's clock)."""
    try:
        async with asyncio.timeout_at(deadline):
            return await sending
    except TimeoutError:
        raise UpstreamTimeout from None
