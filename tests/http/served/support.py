"""What tests of served formats share."""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI

from app.config import Config
from tests.support.gateway import Gateway, settings, token

KEY = "an-api-key-of-a-batch-job"


def served(url: str, *, kinds: dict[str, Any] | None = None, broker: Any = None, **tables: Any) -> Config:
    """Return a configuration with OpenAI's API over ``url``, whose kind is ``chat`` unless others are given."""
    values = {"openai": {"enabled": True}, "keys": {"batch": {"key": KEY}}}
    for name, table in tables.items():
        values[name] = {**values.get(name, {}), **table}
    generations = {"kinds": kinds or {"chat": {"upstream": "chat"}}}
    return settings(url, served=values, generations=generations, broker=broker or {})


def openai(gateway: Gateway, key: str | None = None, **options: Any) -> AsyncOpenAI:
    """Return OpenAI's own client, as its users have it."""
    options = {"max_retries": 0, "timeout": 20, **options}
    return AsyncOpenAI(base_url=f"{gateway.http}/v1", api_key=key or token(), **options)
