"""The channels of generations."""

from __future__ import annotations

from app.generations.event_json import is_terminal

__all__ = ["GENERATION_PREFIX", "channel_of", "ends_channel"]

GENERATION_PREFIX = "gen:"
"""Channels of generations; in the native protocol they go by the generation's id alone."""


def channel_of(generation_id: str) -> str:
    return GENERATION_PREFIX + generation_id


def ends_channel(channel: str, data: bytes) -> bool:
    """Tell the hub after which message a generation's channel has no more."""
    return channel.startswith(GENERATION_PREFIX) and is_terminal(data)
