"""The frames of a screenshot-to-code server, for one of its variants.

Its client knows two ways to be told code: ``chunk`` goes on with it, ``setCode`` is all of it. What grows at its end
goes as ``chunk``, so that bytes grow with the code and not with its square; any other change, and the end, as
``setCode``. Models often put code between fences of Markdown: those are no part of the page.

Source: the server and the client of abi/screenshot-to-code.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from app.generations.formats.served.wire import failure_of, json_string, loaded

__all__ = ["COMPLETE", "VariantFrames", "frame"]

COMPLETE = "Variant generation complete"
_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n", re.MULTILINE)
_END = re.compile(r"^[ \t]*```[ \t]*$|```\s*\Z", re.MULTILINE)
_SHORTEST = 40
"""Characters that must have changed before the whole is sent again."""
_PASSED_ON = frozenset({"assistant", "thinking", "toolResult", "toolStart"})


def frame(kind: str, variant: int, value: str | None = None, **more: Any) -> bytes:
    """Return one frame's JSON text."""
    told = {} if value is None else {"value": value}
    return orjson.dumps({"type": kind, "variantIndex": variant, **told, **more})


class VariantFrames:
    """What one generation sends as variant ``variant``."""

    def __init__(self, variant: int) -> None:
        self._variant = variant
        self._path: str | None = None
        self._code = ""
        self._begun = False
        self._fenced = False
        """Whether the text began with a fence, which is no part of the code."""
        self._changed = 0
        self.failed: str | None = None
        """Why the variant failed, once it has."""
        self.over = False

    def take(self, data: bytes) -> list[bytes]:
        """Return the frames for one event, its JSON text."""
        text = json_string(data)
        if text is not None:
            return self._append(orjson.loads(text)) if self._path is None else []
        event = loaded(data)
        match event.get("type"):
            case "delta" if event.get("part") == "reasoning":
                id_ = f"thinking-{self._variant}-0"
                return [frame("thinking", self._variant, str(event.get("text")), eventId=id_)]
            case "delta":
                return self._work(str(event.get("text")))
            case "set" | "patch":
                return self._file(event)
            case "progress" if event.get("stage"):
                return [frame("status", self._variant, f"{str(event['stage']).capitalize()}...")]
            case "queued":
                return [frame("status", self._variant, f"Waiting: {event.get('position')} in the queue")]
            case "reset":
                self._path, self._code, self._begun, self._fenced, self._changed = None, "", False, False, 0
                return [frame("setCode", self._variant, "")]
            case "completed":
                self.over = True
                whole = frame("setCode", self._variant, self._whole())
                return [whole, frame("variantComplete", self._variant, COMPLETE)]
            case "failed" | "cancelled":
                self.over = True
                self.failed = failure_of(event).message
                return [frame("variantError", self._variant, self.failed)]
        return []

    def _append(self, text: str) -> list[bytes]:
        self._code += text
        if self._begun:
            return [frame("chunk", self._variant, text)]
        head = self._code.lstrip()
        if "```".startswith(head[:3]) and "\n" not in head:
            return []  # It may be a fence.
        self._begun = True
        if head.startswith("```"):
            self._code, self._fenced = _FENCE.sub("", self._code, count=1), True
        return [frame("chunk", self._variant, self._code)] if self._code else []

    def _file(self, event: dict[str, Any]) -> list[bytes]:
        """Take a file's event. The first file is the variant's code; others are not shown by that client."""
        path = str(event.get("path"))
        if self._path is None:
            self._path, self._code = path, ""
        if path != self._path:
            return []
        if event["type"] == "set":
            before, self._code = self._code, str(event["text"])
            self._changed += abs(len(self._code) - len(before)) or _SHORTEST
        else:
            start, removed, inserted = event["from"], event["del"], event["ins"]
            end = len(self._code)
            self._code = self._code[:start] + inserted + self._code[start + removed :]
            if start == end and not removed and not self._changed:
                return [frame("chunk", self._variant, inserted)]
            self._changed += max(removed, len(inserted))
        if self._changed < _SHORTEST:
            return []
        self._changed = 0
        return [frame("setCode", self._variant, self._code)]

    def _work(self, text: str) -> list[bytes]:
        """Pass on what an upstream of the same family told of its work."""
        frames = []
        for line in text.splitlines():
            told = loaded(line.encode())
            if told.get("type") in _PASSED_ON:
                more = {"data": told["data"]} if "data" in told else {}
                value = told.get("text")
                frames.append(frame(told["type"], self._variant, value, eventId=str(told.get("id") or "work"), **more))
        return frames

    def _whole(self) -> str:
        """Return the code alone: of a text with words around it what stands between its first fences."""
        code = self._code
        if self._path is not None:
            return code
        if not self._fenced:
            fence = _FENCE.search(code)
            if fence is None or "<" in code[: fence.start()]:
                return code  # No words before it, but code itself.
            code = code[fence.end() :]
        end = _END.search(code)
        return code if end is None else code[: end.start()]
