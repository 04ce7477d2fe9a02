"""What a request of a language model's API asks for. Pure.

Source: the parameters of OpenAI's, Anthropic's and Ollama's APIs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.limits.estimate import estimate_prompt

__all__ = ["MOST_TOKENS", "TokenCall", "read_call", "read_images"]

MOST_TOKENS = 10_000_000
"""Tokens of one call that are believed."""
_ANSWER_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "num_predict")
_MOST_CHOICES = 128
_IMAGES = ("n", "num_images", "num_outputs", "count", "batch_size", "n_iter")
_MOST_IMAGES = 1000


@dataclass(frozen=True, slots=True)
class TokenCall:
    """A request as it asks: about ``prompt`` tokens, at most ``answer`` (None: it does not say), in one piece or
    ``streamed``, and then with a bill at the end or without (OpenAI's ``stream_options``).
    """

    prompt: int
    answer: int | None = None
    model: str | None = None
    streamed: bool = False
    wants_usage: bool = False


def read_images(body: bytes) -> int:
    """Return how many images a request asks for: as APIs of images call it, else one."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return 1
    fields = value if isinstance(value, dict) else {}
    given = {name: number for name in _IMAGES if type(number := fields.get(name)) is int and number > 0}
    product = given.get("batch_size", 1) * given.get("n_iter", 1)
    return min(max([product, *given.values()]), _MOST_IMAGES)


def read_call(body: bytes, whole: bool) -> TokenCall:
    """Read a request's body; of one that is not ``whole`` only its size is known, and the prompt is what is there."""
    if not whole:
        return TokenCall(len(body) // 4)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return TokenCall(0)
    if not isinstance(value, dict):
        return TokenCall(0)
    model = value.get("model")
    model = model if isinstance(model, str) else None
    options = value.get("options")
    limits = [*_limits(value), *(_limits(options) if isinstance(options, dict) else ())]
    choices = value.get("n")
    times = min(choices, _MOST_CHOICES) if type(choices) is int and choices > 1 else 1
    answer = min(max(limits), MOST_TOKENS) * times if limits else None
    stream = value.get("stream_options")
    bill = isinstance(stream, dict) and stream.get("include_usage") is True
    return TokenCall(estimate_prompt(value, model), answer, model, value.get("stream") is True, bill)


def _limits(value: Mapping[str, Any]) -> list[int]:
    return [number for name in _ANSWER_LIMITS if type(number := value.get(name)) is int and number > 0]
