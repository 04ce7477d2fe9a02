"""OpenAI's Images API as a stream: previews, then the image, for generations and for edits.

``….partial_image`` may come fewer times than was asked for; ``….completed`` carries the image and the usage and is the
terminal. Images are base 64 in the events themselves, so an event may be large.

Source: the types of OpenAI's Python library (``image_gen_*_event.py``, ``image_edit_*_event.py``).
"""

from __future__ import annotations

from typing import Any

from app.errors import UpstreamInvalid, UpstreamTruncated
from app.generations.formats.answer import Answer, count
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.sse_events import json_sse

__all__ = ["MAX_IMAGE_EVENT", "OpenAIImagesReader", "openai_images"]

MAX_IMAGE_EVENT = 32 * 1024 * 1024
"""Bytes of one event: an image of 4096 by 4096 in base 64 fits as a rule."""

_FAMILIES = {"image_generation", "image_edit"}


def openai_images(limit: int = MAX_IMAGE_EVENT) -> StreamDecoder:
    """Return a decoder of one image."""
    return json_sse(OpenAIImagesReader(), limit)


class OpenAIImagesReader:
    """What an event becomes.

    ``partial_image``: progress (``step`` counts previews from 1) and a preview of result 0; ``completed``: an artifact,
    the usage, and the end with ``stop``; ``error``: failed.
    """

    terminals = frozenset({"image_generation.completed", "image_edit.completed"})

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take an event."""
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = name
        family, _, verb = kind.rpartition(".")
        if kind == "error" or value.get("error"):
            answer.refuse(value)
        elif family in _FAMILIES and verb == "partial_image":
            step = count(value.get("partial_image_index"))
            answer.progress(stage="rendering", step=None if step is None else step + 1)
            answer.preview(0, _mime(value, answer), value.get("url"), value.get("b64_json"))
        elif family in _FAMILIES and verb == "completed":
            _complete(value, answer)
        else:
            answer.unknown += 1

    def done(self, answer: Answer) -> None:
        """``[DONE]`` before the image."""
        answer.fail(UpstreamTruncated())


def _complete(value: dict[str, Any], answer: Answer) -> None:
    usage = value.get("usage")
    if isinstance(usage, dict):
        answer.tokens(usage.get("input_tokens"), usage.get("output_tokens"))
    before = len(answer.events)
    answer.artifact(0, _mime(value, answer), value.get("url"), value.get("b64_json"))
    if len(answer.events) == before:
        answer.fail(UpstreamInvalid("The service behind the gateway ended without an image."))
    answer.complete()


def _mime(value: dict[str, Any], answer: Answer) -> str:
    return f"image/{answer.word(value.get('output_format')) or 'png'}"
