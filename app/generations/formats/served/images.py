"""OpenAI's images as an answer: partial images and the whole one as events, or one object.

Source: the types of OpenAI's Python library (``image_gen_partial_image_event.py``, ``image_gen_completed_event.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from app.generations.formats.served.wire import Failure, failure_of, loaded, openai_error
from app.generations.receipt import Snapshot

__all__ = ["NO_IMAGE", "ImageStream", "image_answer"]

NO_IMAGE = Failure("upstream_invalid", "The service behind the gateway ended without an image.", retryable=True)
_FACTS = {"background": "auto", "quality": "auto", "size": "auto"}
_EMPTY_USAGE = {"prompt_tokens": 0, "completion_tokens": 0}


class ImageStream:
    """The stream of one image. Of previews the first ``partial`` are told; ``asked`` is the request's object."""

    def __init__(self, created: int, asked: Mapping[str, Any], partial: int) -> None:
        facts = {name: asked.get(name) or default for name, default in _FACTS.items()}
        self._facts = {"created_at": created, **facts}
        self._room = partial
        self._told = 0
        self._image: dict[str, Any] | None = None
        self._usage: Mapping[str, Any] = _EMPTY_USAGE

    def take(self, data: bytes) -> bytes:
        """Return what is sent for one event."""
        event = loaded(data)
        match event.get("type"):
            case "preview" if self._told < self._room:
                self._told += 1
                number = {"partial_image_index": self._told - 1}
                return self._event("image_generation.partial_image", _image(event), number)
            case "artifact" if self._image is None:
                self._image = _image(event)
            case "usage":
                self._usage = event
            case "completed" if self._image is not None:
                return self._event("image_generation.completed", self._image, {"usage": _usage(self._usage)})
            case "completed":
                return _failed(NO_IMAGE)
            case "failed" | "cancelled":
                return _failed(failure_of(event))
        return b""

    def _event(self, name: str, image: Mapping[str, Any], more: Mapping[str, Any]) -> bytes:
        return _named(name, {"type": name, **image, **self._facts, **more})


def image_answer(created: int, snapshot: Snapshot) -> dict[str, Any]:
    """Return a generation that is completed as one object."""
    data = [
        {name: value for name, value in _image(each).items() if name != "output_format"} for each in snapshot.artifacts
    ]
    answer: dict[str, Any] = {"created": created, "data": data}
    if snapshot.artifacts:
        answer["output_format"] = _image(snapshot.artifacts[0])["output_format"]
    if snapshot.usage is not None:
        counts = {"prompt_tokens": snapshot.usage.prompt_tokens, "completion_tokens": snapshot.usage.completion_tokens}
        answer["usage"] = _usage(counts)
    return answer


def _image(event: Mapping[str, Any]) -> dict[str, Any]:
    mime = str(event.get("mime") or "image/png")
    place = {"b64_json": event["data"]} if event.get("data") else {"url": event.get("url")}
    return {**place, "output_format": mime.partition("/")[2] or "png"}


def _usage(event: Mapping[str, Any]) -> dict[str, Any]:
    prompt, completion = int(event["prompt_tokens"]), int(event["completion_tokens"])
    details = {"text_tokens": prompt, "image_tokens": 0}
    total = {"total_tokens": prompt + completion, "input_tokens_details": details}
    return {"input_tokens": prompt, "output_tokens": completion, **total}


def _failed(failure: Failure) -> bytes:
    return _named("error", {"type": "error", "error": openai_error(failure)})


def _named(name: str, value: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"
