"""OpenAI's chat completions, which most model servers speak: what is asked, and what a stream of the answer means.

The stream is server-sent events whose data is a JSON chunk, and at last the text ``[DONE]``. That is the terminal, and
the only one: a connection may well break between the chunk that has a ``finish_reason`` and ``[DONE]``, with the usage
in between, so that a stream without ``[DONE]`` was truncated, whatever else it held. A server that cannot go on says so
in a chunk with a top-level ``error`` under status 200; some add a list of choices to it. A chunk that is no JSON is
counted and skipped: one bad event must not cost the reader the rest of his answer.

Source: the types of OpenAI's Python library (``chat_completion_chunk.py``, ``_streaming.py``), and for what differs the
documentation of OpenRouter, DeepSeek and vLLM.
"""

from __future__ import annotations

from typing import Any

from app.errors import UpstreamError
from app.generations.events import Delta
from app.generations.formats.answer import Answer
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.sse import MAX_EVENT
from app.generations.formats.sse_events import json_sse

__all__ = ["OpenAIChatReader", "openai_chat"]


def openai_chat(limit: int = MAX_EVENT) -> StreamDecoder:
    """Return a decoder of one answer."""
    return json_sse(OpenAIChatReader(), limit)


class OpenAIChatReader:
    """What a chunk becomes, of the choice with index 0 (or none) alone, in this order.

    - ``delta.reasoning_content`` or ``delta.reasoning``: a ``reasoning`` delta;
    - ``delta.content``, ``delta.refusal``: ``text`` deltas;
    - ``delta.tool_calls``, ``delta.function_call``: one ``tool`` delta. Its text is a line of JSON for each fragment,
      with all its fields, and a line feed at the end, so that the texts of several deltas joined are still
      lines: ``{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}``. Their ``arguments``
      joined by ``index`` are the call's; a ``function_call`` is ``{"function_call":{…}}``;
    - ``usage``: a :class:`~app.generations.events.Usage`, at once from a chunk without choices, else before the
      terminal, for some servers repeat it, growing, in every chunk.

    Unknown fields and values of a wrong type are passed over.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._reason: str | None = None

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a chunk."""
        if answer.model is None:
            answer.named(value.get("model"))
        choices = value.get("choices")
        if type(choices) is list:
            for choice in choices:
                if type(choice) is dict and not choice.get("index"):
                    self._read_choice(choice, answer)
        if usage := value.get("usage"):
            if isinstance(usage, dict):
                answer.tokens(usage.get("prompt_tokens"), usage.get("completion_tokens"))
            if not choices:
                answer.report_usage()
        if value.get("error") or name == "error":
            answer.refuse(value)

    def done(self, answer: Answer) -> None:
        """End: the one terminal."""
        if self._reason == "error":  # OpenRouter's word for a failure; its error object went missing.
            answer.fail(UpstreamError())
        else:
            answer.complete(self._reason)

    def _read_choice(self, choice: dict[str, Any], answer: Answer) -> None:
        delta = choice.get("delta")
        if type(delta) is dict:
            content = delta.get("content")
            if len(delta) > 1 or type(content) is not str or answer.mending:
                _read_delta(delta, answer)
            elif content:
                answer.events.append(Delta(content))
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str):
            self._reason = reason


def _read_delta(delta: dict[str, Any], answer: Answer) -> None:
    # Servers that send both mean one text.
    answer.text(delta.get("reasoning_content") or delta.get("reasoning"), "reasoning")
    answer.text(delta.get("content"))
    answer.text(delta.get("refusal"))
    if delta.get("tool_calls") or delta.get("function_call"):
        calls, call = delta.get("tool_calls"), delta.get("function_call")
        fragments = [item for item in calls if isinstance(item, dict)] if isinstance(calls, list) else []
        answer.fragments(*fragments, *([{"function_call": call}] if isinstance(call, dict) else []))
