"""Requests of services whose input is their own matter: images, code, speech, and JSON lines of any kind.

Their parameters differ from service to service and from month to month, so they are passed on as the client gave them;
only what the gateway itself depends on is checked or set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.errors import BadRequest
from app.generations.formats.parameters import dumped, named_model

__all__ = ["images_body", "passed_on"]

_MOST_PARTIAL = 3


def images_body(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of a request to OpenAI's Images API, which always asks for a stream.

    ``input`` holds ``prompt`` (or ``message``, as a chat's), a text, and what else the API takes. ``n`` must be 1: a
    stream is of one image. Raises :exc:`~app.errors.BadRequest`.
    """
    fields = {name: value for name, value in input.items() if value is not None}
    prompt = fields.pop("prompt", None) or fields.pop("message", None)
    if not isinstance(prompt, str) or not prompt:
        raise BadRequest("input.prompt must be a text that is not empty.")
    if fields.get("n", 1) != 1:
        raise BadRequest("input.n must be 1: one generation is one image.")
    partial = fields.get("partial_images", 0)
    if type(partial) is not int or not 0 <= partial <= _MOST_PARTIAL:
        raise BadRequest(f"input.partial_images must be a whole number from 0 to {_MOST_PARTIAL}.")
    return dumped({**fields, **named_model(fields, default_model), "prompt": prompt, "stream": True})


def passed_on(input: Mapping[str, Any], default_model: str | None) -> bytes:
    """Return the JSON text of ``input`` as it is, with ``default_model`` as its ``model`` where it names none.

    Raises :exc:`~app.errors.BadRequest`.
    """
    return dumped({**input, **named_model({k: v for k, v in input.items() if v is not None}, default_model)})
