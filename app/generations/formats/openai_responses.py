"""OpenAI's Responses API: typed events, over server-sent events or as frames of a WebSocket.

Every object says its ``type``, and the terminals are events that carry the whole response: ``response.completed``,
``response.incomplete`` (a limit was reached, the text is sound) and ``response.failed``; ``error`` is a failure without
one. ``[DONE]`` is no part of the family. Some compatible servers send only the ``….done`` of a text or of a call's
arguments and none of its deltas; then the whole is taken from there.

Source: the types of OpenAI's Python library (``types/responses/*_event.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.errors import UpstreamTruncated
from app.generations.events import Part
from app.generations.formats.answer import Answer, count, exact
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.sse import MAX_EVENT
from app.generations.formats.sse_events import json_sse

__all__ = ["OpenAIResponsesReader", "openai_responses"]

_MAX_PIECES = 4096
"""Texts and calls of one answer that are remembered as begun."""
_PARTS: dict[str, Part] = {
    "response.output_text": "text",
    "response.refusal": "text",
    "response.audio.transcript": "text",
    "response.reasoning_text": "reasoning",
    "response.reasoning_summary_text": "reasoning",
}
_WORK = {
    "response.code_interpreter_call_code": "code",
    "response.shell_call_command": "command",
}
_STATES = ("_call", "mcp_list_tools", "response.compaction")
_ARGUMENTS = {
    "response.function_call_arguments": "arguments",
    "response.mcp_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
}
_CALLS = {"function_call", "custom_tool_call", "mcp_call"}
_REASONS = {"max_output_tokens": "length"}
_NOTHING_NEW = (
    "response.output_item.",
    "response.content_part.",
    "response.output_text.annotation.",
    "response.reasoning_summary_part.",
    "response.image_generation_call.",
    "response.audio.",
    "response.code_interpreter_call_code.",
    "response.shell_call_command.",
    "response.shell_call_output_content.",
)


def openai_responses(limit: int = MAX_EVENT) -> StreamDecoder:
    """Return a decoder of one response over server-sent events."""
    return json_sse(OpenAIResponsesReader(), limit)


class OpenAIResponsesReader:
    """What an event becomes.

    - ``….output_text.delta``, ``….refusal.delta``: ``text``; ``….reasoning_text.delta`` and
      ``….reasoning_summary_text.delta``: ``reasoning``, an empty line between two parts of a summary;
    - calls of functions, of custom tools and of MCP servers: ``tool`` lines in the form of chat completions, ``index``
      being the output's; code that is run there likewise, ``{"index", "code"}``, commands as ``{"index", "command"}``;
    - ``….image_generation_call.partial_image``: a preview, its finished result an artifact; web and file searches and
      the like: progress with the tool's and the state's name;
    - the terminal's ``usage`` before it; ``incomplete`` is completed with ``length`` or ``content_filter``.
    """

    terminals = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})

    def __init__(self) -> None:
        self._begun: set[tuple[Any, ...]] = set()
        self._called = False
        self._on: dict[str, Callable[[dict[str, Any], Answer], None]] = {
            "response.created": _begin,
            "response.in_progress": _begin,
            "response.queued": _queue,
            "response.completed": self._complete,
            "response.incomplete": self._complete,
            "response.failed": _fail,
            "response.cancelled": _cancel,
            "error": lambda value, answer: answer.refuse(value),
            "response.output_item.added": self._add_item,
            "response.output_item.done": self._finish_item,
            "response.reasoning_summary_part.added": _part_summary,
            "response.image_generation_call.partial_image": _preview,
        }

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take an event."""
        kind = value.get("type")
        if not isinstance(kind, str):
            kind = "error" if value.get("error") else name
        family, _, verb = kind.rpartition(".")
        if verb == "delta" and family in _PARTS:
            self._begin_piece(family, value)
            answer.text(value.get("delta"), _PARTS[family])
        elif verb == "delta" and family in _ARGUMENTS:
            self._begin_piece(family, value)
            _say_arguments(family, value, value.get("delta"), answer)
        elif verb == "delta" and family in _WORK and isinstance(text := value.get("delta"), str):
            answer.fragments({"index": count(value.get("output_index")) or 0, _WORK[family]: text})
        elif verb == "done" and (family in _PARTS or family in _ARGUMENTS):
            self._finish_piece(family, value, answer)
        elif (act := self._on.get(kind)) is not None:
            act(value, answer)
        elif family.endswith(_STATES):
            answer.progress(stage=f"{family.removeprefix('response.')} {verb}".replace("_", " "))
        elif not kind.startswith(_NOTHING_NEW):
            answer.unknown += 1

    def done(self, answer: Answer) -> None:
        """``[DONE]`` before a terminal: the server is through, the response is not."""
        answer.fail(UpstreamTruncated())

    def _begin_piece(self, family: str, value: dict[str, Any]) -> None:
        if len(self._begun) < _MAX_PIECES:
            self._begun.add(_piece(family, value))

    def _finish_piece(self, family: str, value: dict[str, Any], answer: Answer) -> None:
        if _piece(family, value) in self._begun or len(self._begun) >= _MAX_PIECES:
            return
        self._begin_piece(family, value)
        if family in _PARTS:
            answer.text(value.get("text") or value.get("refusal"), _PARTS[family])
        else:
            _say_arguments(family, value, value.get(_ARGUMENTS[family]), answer)

    def _add_item(self, value: dict[str, Any], answer: Answer) -> None:
        item, index = value.get("item"), count(value.get("output_index")) or 0
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(kind, str) or kind not in _CALLS:
            return
        self._called = self._called or kind != "mcp_call"
        id_ = item.get("call_id") or item.get("id")
        if kind == "custom_tool_call":
            custom = {"name": exact(item.get("name")), "input": ""}
            answer.fragments({"index": index, "id": exact(id_), "type": "custom", "custom": custom})
        else:
            answer.call(index, id=id_, name=item.get("name") or "")

    def _finish_item(self, value: dict[str, Any], answer: Answer) -> None:
        item = value.get("item")
        if isinstance(item, dict) and item.get("type") == "image_generation_call":
            mime = f"image/{answer.word(item.get('output_format')) or 'png'}"
            answer.artifact(count(value.get("output_index")) or 0, mime, item.get("url"), item.get("result"))

    def _complete(self, value: dict[str, Any], answer: Answer) -> None:
        response = _read_response(value, answer)
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        if isinstance(reason, str) and reason:
            answer.complete(_REASONS.get(reason, reason))
        elif value.get("type") == "response.incomplete":
            answer.complete("length")
        else:
            answer.complete("tool_calls" if self._called else "stop")


def _piece(family: str, value: dict[str, Any]) -> tuple[Any, ...]:
    numbers = (count(value.get(name)) for name in ("output_index", "content_index", "summary_index"))
    return (family, *numbers)


def _say_arguments(family: str, value: dict[str, Any], text: Any, answer: Answer) -> None:
    if not isinstance(text, str) or not text:
        return
    index = count(value.get("output_index")) or 0
    if _ARGUMENTS[family] == "input":
        answer.fragments({"index": index, "custom": {"input": text}})
    else:
        answer.call(index, text)


def _read_response(value: dict[str, Any], answer: Answer) -> dict[str, Any]:
    response = value.get("response")
    if not isinstance(response, dict):
        return {}
    answer.named(response.get("model"))
    usage = response.get("usage")
    if isinstance(usage, dict):
        answer.tokens(usage.get("input_tokens"), usage.get("output_tokens"))
    return response


def _begin(value: dict[str, Any], answer: Answer) -> None:
    _read_response(value, answer)


def _queue(value: dict[str, Any], answer: Answer) -> None:
    _read_response(value, answer)
    answer.progress(stage="queued")


def _fail(value: dict[str, Any], answer: Answer) -> None:
    answer.refuse(_read_response(value, answer).get("error"))


def _cancel(value: dict[str, Any], answer: Answer) -> None:
    _read_response(value, answer)
    answer.cancel()


def _part_summary(value: dict[str, Any], answer: Answer) -> None:
    if count(value.get("summary_index")):
        answer.text("\n\n", "reasoning")


def _preview(value: dict[str, Any], answer: Answer) -> None:
    mime = f"image/{answer.word(value.get('output_format')) or 'png'}"
    answer.preview(count(value.get("output_index")) or 0, mime, data=value.get("partial_image_b64"))
