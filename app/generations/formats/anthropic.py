"""Anthropic's Messages: what a stream of server-sent events means.

A message has blocks, each begun, continued and stopped by its ``index``; ``message_delta`` tells why it stops and what
it has cost, and ``message_stop``, which carries nothing, is the terminal. The input tokens come with
``message_start``, the output tokens grow in ``message_delta``: each count is the whole so far, so the last one holds.
What the first event says of output is a beginning and no bill. An error may come at any time under status 200.

Source: Anthropic's documentation (*Streaming Messages*) and the types of its Python library.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from app.errors import UpstreamTruncated
from app.generations.formats.answer import Answer, count
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.sse import MAX_EVENT
from app.generations.formats.sse_events import json_sse

__all__ = ["AnthropicReader", "anthropic"]

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CALLS = {"tool_use", "server_tool_use", "mcp_tool_use"}
_SILENT = {"signature_delta", "citations_delta"}
_INPUTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def anthropic(limit: int = MAX_EVENT) -> StreamDecoder:
    """Return a decoder of one message."""
    return json_sse(AnthropicReader(), limit)


class AnthropicReader:
    """What an event becomes.

    - ``text_delta``: ``text``; ``thinking_delta``: ``reasoning``; text that a block has from its start likewise;
    - a block ``tool_use`` and its ``input_json_delta``: ``tool`` lines in the form of chat completions, ``index`` being
      the block's;
    - ``usage``: prompt tokens are the input with what was read from and written to the cache; told once, at the end.

    ``ping`` and what a reader does not need (signatures, citations) pass in silence.
    """

    terminals = frozenset({"message_stop"})

    def __init__(self) -> None:
        self._reason: str | None = None
        self._prompt: dict[str, int] = {}
        self._on: dict[str, Callable[[dict[str, Any], Answer], None]] = {
            "content_block_delta": self._continue_block,
            "content_block_start": _begin_block,
            "content_block_stop": _nothing,
            "message_start": self._begin,
            "message_delta": self._read_stop,
            "message_stop": lambda _, answer: answer.complete(self._reason),
            "ping": _nothing,
            "error": lambda value, answer: answer.refuse(value),
        }

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take an event."""
        kind = value.get("type")
        act = self._on.get(kind if isinstance(kind, str) else "error" if value.get("error") else name)
        if act is None:
            answer.unknown += 1
        else:
            act(value, answer)

    def done(self, answer: Answer) -> None:
        """``[DONE]`` before ``message_stop``: the server is through, the message is not."""
        answer.fail(UpstreamTruncated())

    def _begin(self, value: dict[str, Any], answer: Answer) -> None:
        message = value.get("message")
        if isinstance(message, dict):
            answer.named(message.get("model"))
            self._read_input(message.get("usage"))  # Of a message that is cut no bill is told: the output is unknown.

    def _continue_block(self, value: dict[str, Any], answer: Answer) -> None:
        delta = value.get("delta")
        match delta:
            case {"type": "text_delta", "text": text}:
                answer.text(text)
            case {"type": "thinking_delta", "thinking": text}:
                answer.text(text, "reasoning")
            case {"type": "input_json_delta", "partial_json": str(text)}:
                if text:
                    answer.call(count(value.get("index")) or 0, text)
            case {"type": str(kind)} if kind in _SILENT:
                pass
            case _:
                answer.unknown += 1

    def _read_stop(self, value: dict[str, Any], answer: Answer) -> None:
        delta = value.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if isinstance(reason, str) and reason:
            self._reason = _REASONS.get(reason, reason)
        usage = self._read_input(value.get("usage"))
        answer.tokens(sum(self._prompt.values()), usage.get("output_tokens"))

    def _read_input(self, usage: Any) -> dict[str, Any]:
        if not isinstance(usage, dict):
            return {}
        for name in _INPUTS:
            if (tokens := count(usage.get(name))) is not None:
                self._prompt[name] = tokens
        return usage


def _begin_block(value: dict[str, Any], answer: Answer) -> None:
    block, index = value.get("content_block"), count(value.get("index")) or 0
    if not isinstance(block, dict):
        answer.malformed += 1
        return
    match block:
        case {"type": "text", "text": text}:
            answer.text(text)
        case {"type": "thinking", "thinking": text}:
            answer.text(text, "reasoning")
        case {"type": str(kind)} if kind in _CALLS:
            given = block.get("input")  # As a rule empty here, and told by deltas.
            try:
                arguments = orjson.dumps(given).decode() if isinstance(given, dict) and given else ""
            except (orjson.JSONEncodeError, RecursionError):
                answer.malformed += 1
                return
            answer.call(index, arguments, block.get("id"), block.get("name") or "")


def _nothing(value: dict[str, Any], answer: Answer) -> None:
    """It tells a reader nothing."""
