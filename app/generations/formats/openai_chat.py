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

import orjson

from app.errors import UpstreamError, UpstreamInvalid, UpstreamTruncated
from app.generations.events import Completed, Delta, Event, Failed, Usage
from app.generations.formats.refusals import clean, refusal_of
from app.generations.formats.sse import MAX_EVENT, SseParser

__all__ = ["OpenAIChatDecoder"]

_DONE = b"[DONE]"
_REASON_LENGTH = 64


class OpenAIChatDecoder:
    """Turns the body of one answer into events; exactly one terminal, and nothing after it.

    What a chunk becomes, of the choice with index 0 (or none) alone, in this order:

    - ``delta.reasoning_content`` or ``delta.reasoning``: a ``reasoning`` delta;
    - ``delta.content``, ``delta.refusal``: ``text`` deltas;
    - ``delta.tool_calls``, ``delta.function_call``: one ``tool`` delta. Its text is a line of JSON for each fragment,
      with all its fields, and a line feed at the end, so that the texts of several deltas joined are still lines:
      ``{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}``. Their ``arguments``
      joined by ``index`` are the call's; a ``function_call`` is ``{"function_call":{…}}``;
    - ``usage``: a :class:`Usage`, at once from a chunk without choices, else before the terminal, for some servers
      repeat it, growing, in every chunk.

    Unknown fields and values of a wrong type are passed over. ``model`` is that of the first chunk that names one,
    ``usage`` the last seen, ``malformed`` the number of events that were not a JSON object.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self.model: str | None = None
        self.usage: Usage | None = None
        self.malformed = 0
        self.ended = False
        self._parser = SseParser(limit)
        self._reason: str | None = None
        self._reported: Usage | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete; never raises. An event past the limit fails the generation."""
        if self.ended:
            return []
        try:
            received = self._parser.feed(data)
        except UpstreamInvalid as error:
            return self._fail(error)
        events: list[Event] = []
        for name, payload in received:
            if payload == _DONE:
                return events + self._complete()
            try:
                chunk = orjson.loads(payload)
            except orjson.JSONDecodeError:
                chunk = None
            if type(chunk) is dict and name != "error" and not chunk.get("error"):
                self._read_chunk(chunk, events)
            elif (ending := self._read_oddity(name, payload, chunk, events)) is not None:
                return events + ending
        return events

    def end(self) -> list[Event]:
        """Return what the body's end means: nothing after a terminal, else the failure ``upstream_truncated``.

        A ``[DONE]`` that lacks only its line ends counts: nothing of it is missing, and nothing comes after it.
        """
        if self.ended:
            return []
        try:
            left = self._parser.end()
        except UpstreamInvalid as error:
            return self._fail(error)
        return self._complete() if left and left[1].strip() == _DONE else self._fail(UpstreamTruncated())

    def _read_chunk(self, chunk: dict[str, Any], events: list[Event]) -> None:
        if self.model is None and isinstance(model := chunk.get("model"), str) and model:
            self.model = clean(model, 200)
        choices = chunk.get("choices")
        if type(choices) is list:
            for choice in choices:
                if type(choice) is dict and not choice.get("index"):
                    self._read_choice(choice, events)
        if usage := chunk.get("usage"):
            self._read_usage(usage)
            if not choices:
                events += self._report_usage()

    def _read_choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        delta = choice.get("delta")
        if type(delta) is dict:
            content = delta.get("content")
            if len(delta) > 1 or type(content) is not str:
                self._read_delta(delta, events)
            elif content:
                events.append(Delta(content))
        reason = choice.get("finish_reason")
        if reason and isinstance(reason, str):
            self._reason = clean(reason, _REASON_LENGTH)

    def _read_delta(self, delta: dict[str, Any], events: list[Event]) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")  # Servers that send both mean one text.
        if reasoning and isinstance(reasoning, str):
            events.append(Delta(reasoning, "reasoning"))
        for text in (delta.get("content"), delta.get("refusal")):
            if text and isinstance(text, str):
                events.append(Delta(text))
        if delta.get("tool_calls") or delta.get("function_call"):
            self._read_tools(delta, events)

    def _read_tools(self, delta: dict[str, Any], events: list[Event]) -> None:
        calls = delta.get("tool_calls")
        fragments = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        if isinstance(call := delta.get("function_call"), dict):
            fragments.append({"function_call": call})
        try:
            text = "".join(orjson.dumps(fragment).decode() + "\n" for fragment in fragments)
        except orjson.JSONEncodeError:  # Nested deeper than orjson writes, though not than it reads.
            self.malformed += 1
            return
        if text:
            events.append(Delta(text, "tool"))

    def _read_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(prompt) is int and type(completion) is int and prompt >= 0 and completion >= 0:
            self.usage = Usage(prompt, completion)

    def _report_usage(self) -> list[Event]:
        if self.usage is None or self.usage == self._reported:
            return []
        self._reported = self.usage
        return [self.usage]

    def _read_oddity(self, name: str, payload: bytes, chunk: Any, events: list[Event]) -> list[Event] | None:
        """Read an event that is no sound chunk. Return the terminal with what goes before it, or None to go on."""
        if payload.strip() == _DONE:
            return self._complete()
        if isinstance(chunk, dict) and chunk.get("error"):
            self._read_chunk(chunk, events)
        elif name != "error":
            self.malformed += 1
            return None
        refusal = refusal_of(chunk)
        return self._fail(refusal.error())

    def _complete(self) -> list[Event]:
        if self._reason == "error":  # OpenRouter's word for a failure; its error object went missing.
            return self._fail(UpstreamError())
        self.ended = True
        return [*self._report_usage(), Completed(self._reason or "stop")]

    def _fail(self, error: UpstreamError) -> list[Event]:
        self.ended = True
        return [*self._report_usage(), Failed(error.code, error.message, error.retryable)]
