"""What a replay is told, in a form that goes to its processes; and the small languages of its options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Mapping", "Options", "Pace", "Slow", "duration", "rate", "slow"]

Pace = Literal["recorded", "gated", "asap"]
Mapping = Literal["one", "each"]
_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def duration(text: str) -> float:
    """Return the seconds of ``30s``, ``250ms``, ``2m``, ``1.5``. Raises :exc:`ValueError`."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([a-zµ]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no duration: 30s, 250ms, 2m")
    return float(match[1]) * _UNITS[match[2]]


def rate(text: str) -> float:
    """Return the bytes a second of ``1KB/s``. Raises :exc:`ValueError`."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([KMG]?)i?B?(/s)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ValueError(f"{text!r} is no rate: 1KB/s")
    return float(match[1]) * _BYTES[match[2].upper()]


@dataclass(frozen=True, slots=True)
class Slow:
    """Which share of the users reads how slowly."""

    share: float
    rate: float


def slow(text: str) -> Slow:
    """Read ``5%@1KB/s``. Raises :exc:`ValueError`."""
    share, at, speed = text.partition("@")
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)%", share.strip())
    if match is None or not at or float(match[1]) > 100:
        raise ValueError(f"{text!r}: say how many read how slowly, as 5%@1KB/s")
    return Slow(float(match[1]) / 100, rate(speed))


@dataclass(slots=True)
class Options:
    """All of a replay. Times in seconds."""

    session: str
    urls: list[str]
    """Of the replicas: users take turns, and come back on the next one."""
    clients: int = 1
    ramp: float = 0.0
    speed: float = 1.0
    pace: Pace = "recorded"
    loop: bool = False
    duration: float | None = None
    """After which everything stops. None: when all have played."""
    mapping: Mapping = "one"
    processes: int = 1
    settle: float = 10.0
    """For how long a user waits at the end for what is still to come."""
    connect_timeout: float = 10.0
    rest: bool = True
    rest_url: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    insecure: bool = False
    """Take any certificate."""
    # Whose tokens.
    jwt_secret: str | None = None
    claims: dict[str, object] = field(default_factory=dict)
    token_command: str | None = None
    tokens_csv: str | None = None
    token_ttl: float = 3600.0
    refresh: bool = True
    user: str = "load-{vu}"
    # Chaos.
    drop_every: float | None = None
    offline: float = 1.0
    storms: list[float] = field(default_factory=list)
    slow: Slow | None = None
    marks: bool = False
    """Whether the texts come from the producer, and are the recorded ones."""
