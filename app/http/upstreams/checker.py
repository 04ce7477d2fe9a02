"""Asks targets whether they are well: regularly where the configuration says so, and when somebody wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from app.errors import UpstreamBusy, UpstreamError
from app.http.request_head import request_head
from app.http.upstreams.pool import Pool
from app.http.upstreams.target import Target

__all__ = ["check_regularly", "is_well"]

_JITTER = 0.1
"""The share of the interval by which probes are moved to and fro, so that replicas don't probe at the same moment."""


async def check_regularly(pool: Pool, random: Callable[[], float]) -> None:
    """Probe all targets at the configured interval, for ever."""
    health = pool.config.health
    await asyncio.sleep(health.interval * random())
    while True:
        if monotonic() >= pool.resolve_at:
            await pool.resolve(monotonic())
        targets = list(pool.targets)
        results = await asyncio.gather(*(is_well(pool, target, health.timeout) for target in targets))
        for target, good in zip(targets, results, strict=True):
            if good is not None:
                pool.probed(target, good, monotonic())
        await asyncio.sleep(health.interval * (1 + _JITTER * (2 * random() - 1)))


async def is_well(pool: Pool, target: Target, within: float) -> bool | None:
    """Ask for the ``health_path`` on a connection of its own; return whether an answer below 500 came in time.

    None when the target has no connection to spare: it is asked by others quite enough.
    """
    path = pool.config.health_path or "/"
    try:
        async with asyncio.timeout(within):
            connection = await target.connect()
            try:
                head = request_head("GET", target.address, path, (), static=pool.static, length=0)
                answer = connection.send(head, b"", head_only=False, response_timeout=within, idle_timeout=within)
                await answer.head(within)
                return answer.status < 500
            finally:
                connection.close()
    except UpstreamBusy:
        return None
    except (UpstreamError, TimeoutError):
        return False
