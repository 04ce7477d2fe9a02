"""What the translations of chat completions have in common: fields that a family knows, images, calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.errors import BadRequest

__all__ = ["function_of", "image_of", "is_picture", "known"]

_HINTS = frozenset(
    {
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "user",
    }
)
"""What a family may leave out without doing anything else than was asked."""


def known(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return the fields of ``names``. Raises :exc:`~app.errors.BadRequest` for others that mean something."""
    for name in fields:
        if name not in names and name not in _HINTS:
            raise BadRequest(f"{name[:64]} is not served by the upstream of this model.")
    return {name: fields[name] for name in names if name in fields}


def is_picture(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


def image_of(part: dict[str, Any], index: int) -> tuple[str, str, str]:
    """Return an image's media type, its base 64, and its URL; one of the two last is empty."""
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url:
        raise BadRequest(f"messages[{index}].content holds an image without a url.")
    if not url.startswith("data:"):
        return "image/*", "", url
    head, _, data = url[len("data:") :].partition(",")
    mime, _, encoding = head.partition(";")
    if encoding != "base64" or not mime.startswith("image/"):
        raise BadRequest(f"messages[{index}].content holds an image that is not data:image/…;base64.")
    return mime, data, ""


def function_of(call: dict[str, Any], index: int) -> tuple[str, Any]:
    """Return a call's name and its arguments as a value: other families have an object where this one has a text."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRequest(f"messages[{index}].tool_calls must hold functions with a name.")
    try:
        value = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        raise BadRequest(
            f"messages[{index}].tool_calls: the arguments of {function['name'][:64]} are no JSON."
        ) from None
    return function["name"], value
