"""The frames of a screenshot-to-code server: several variants of one page, written at the same time.

A frame is ``{"type", "variantIndex", "value"?, "data"?, "eventId"?}``. ``setCode`` carries the whole code of a variant
as it is, again and again; told on, it is a patch of the file. There is no frame for the end of all: the answer ends
when each of the variants that were announced (``variantCount``) has ended, well or not, or, from servers of one variant
that announce none, when the socket is closed with 1000. ``error`` ends all.

Source: the server and the client of abi/screenshot-to-code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.errors import UpstreamError
from app.generations.formats.answer import Answer, exact
from app.generations.formats.decoders import JsonFrames

__all__ = ["ScreenshotToCodeReader", "path_of", "screenshot_to_code"]

MAX_VARIANTS = 64
_CLOSED_WELL = 1000
_CLOSED_BY_CLIENT = 4333


def screenshot_to_code() -> JsonFrames:
    """Return a decoder of one socket's frames."""
    return JsonFrames(ScreenshotToCodeReader())


def path_of(variant: int) -> str:
    """Return the file that a variant's code is told as."""
    return f"variants/{variant}/index.html"


class ScreenshotToCodeReader:
    """What a frame becomes.

    - ``setCode``, ``chunk``: ``set`` and ``patch`` of the variant's file, ``variants/<variant>/index.html``;
    - ``thinking``, ``assistant``, ``toolStart``, ``toolResult``: a ``tool`` line each, ``{"variant", "type", "id"}``
      with ``text`` or ``data``; what goes on has the same ``id``;
    - ``status``: progress; ``variantComplete``, ``variantError``: progress, ``step`` of ``total`` variants done. The
      reason of ``completed`` is ``stop``, or ``partial`` where some of the variants failed; if all did, it is failed.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._variants: int | None = None
        self._finished: set[int] = set()
        self._failed: set[int] = set()
        self._wrote = False
        self._on: dict[str, Callable[[int, dict[str, Any], Answer], None]] = {
            "variantCount": self._count,
            "variantModels": lambda _, value, answer: None,
            "status": _tell_status,
            "thinking": _tell_work,
            "assistant": _tell_work,
            "toolStart": _tell_work,
            "toolResult": _tell_work,
            "setCode": self._set,
            "chunk": self._append,
            "variantComplete": self._complete,
            "variantError": self._fail_variant,
            "error": lambda _, value, answer: answer.refuse({"message": value.get("value")}),
        }

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a text frame."""
        kind, variant = value.get("type"), value.get("variantIndex", 0)
        act = self._on.get(kind) if isinstance(kind, str) else None
        if act is None:
            answer.unknown += 1
        elif type(variant) is not int or not 0 <= variant < MAX_VARIANTS:
            answer.malformed += 1
        else:
            act(variant, value, answer)

    def done(self, answer: Answer) -> None:
        """The family has no ``[DONE]``."""
        raise AssertionError("frames have no [DONE]")

    def binary(self, data: bytes, answer: Answer) -> None:
        """The family has no binary frames."""
        answer.unknown += 1

    def closed(self, code: int | None, answer: Answer) -> None:
        """Take the close: an end only where no variants were announced, and code was written."""
        if code == _CLOSED_BY_CLIENT:
            answer.cancel()
        elif code == _CLOSED_WELL and self._variants is None and self._wrote:
            answer.complete("partial" if self._failed else "stop")

    def _count(self, variant: int, value: dict[str, Any], answer: Answer) -> None:
        text = value.get("value")
        number = int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 4 else text
        if type(number) is int and 0 < number <= MAX_VARIANTS:
            self._variants = number
        else:
            answer.malformed += 1

    def _set(self, variant: int, value: dict[str, Any], answer: Answer) -> None:
        self._wrote = True
        answer.file(path_of(variant), value.get("value"))

    def _append(self, variant: int, value: dict[str, Any], answer: Answer) -> None:
        self._wrote = True
        answer.append(path_of(variant), value.get("value"))

    def _complete(self, variant: int, value: dict[str, Any], answer: Answer) -> None:
        self._finished.add(variant)
        self._finish(f"variant {variant} complete", answer)

    def _fail_variant(self, variant: int, value: dict[str, Any], answer: Answer) -> None:
        self._failed.add(variant)
        message = answer.word(value.get("value"))
        self._finish(f"variant {variant} failed" + (f": {message}" if message else ""), answer)

    def _finish(self, stage: str, answer: Answer) -> None:
        """Tell that one more variant has ended, and the end when it was the last."""
        ended = len(self._finished | self._failed)
        total = self._variants
        answer.progress(stage, ended, total, None if total is None else 100 * ended / total)
        if total is None or ended < total:
            return
        if self._finished:
            answer.complete("partial" if self._failed - self._finished else "stop")
        else:
            answer.fail(UpstreamError(f"Every variant failed. The last one: {stage}", retryable=True))


def _tell_status(variant: int, value: dict[str, Any], answer: Answer) -> None:
    if (status := answer.word(value.get("value"))) is not None:
        answer.progress(f"variant {variant}: {status}")


def _tell_work(variant: int, value: dict[str, Any], answer: Answer) -> None:
    line: dict[str, Any] = {"variant": variant, "type": value["type"], "id": exact(value.get("eventId"))}
    if isinstance(text := value.get("value"), str):
        line["text"] = text
    if isinstance(data := value.get("data"), dict):
        line["data"] = data
    answer.fragments(line)
