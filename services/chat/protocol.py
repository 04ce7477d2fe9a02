"""OpenAI's chat completion protocol: requests checked, answers and chunks built. Pure.

``parse_request`` turns a body into a ``ChatRequest`` or raises the error to answer with. ``Answer`` builds the JSON of
one completion, whole or in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from services.chat.errors import InvalidRequest
from services.chat.sampling import FinishReason, Sampling
from services.chat.text import count_pieces

__all__ = ["DONE", "Answer", "ChatMessage", "ChatRequest", "count_prompt", "parse_json", "parse_request", "sse"]

DONE = b"data: [DONE]\n\n"
SESSION_ID = r"^[A-Za-z0-9_.:-]{1,128}$"
_DEFAULT_TOKENS = 512


class _Model(BaseModel):
    # Strict: "yes" is no boolean and "3" no number. What is not known is ignored, as OpenAI's clients send new fields.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class ChatMessage(_Model):
    """One message. Content in parts is joined; parts that are not text are refused."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str = ""

    @field_validator("content", mode="before")
    @classmethod
    def _joined(cls, content: Any) -> Any:
        if content is None:
            return ""
        if not isinstance(content, list):
            return content
        texts: list[str] = []
        for part in content:
            match part:
                case {"type": "text", "text": str(text)}:
                    texts.append(text)
                case _:
                    raise ValueError('every part must be of the form {"type": "text", "text": "..."}')
        return "".join(texts)


class StreamOptions(_Model):
    include_usage: bool = False


class ChatRequest(_Model):
    """The fields of a request that matter here. ``session_id`` and ``min_tokens`` are extensions."""

    messages: list[ChatMessage] = Field(min_length=1)
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    min_tokens: int | None = Field(None, ge=0)
    seed: int | None = None
    stop: list[str] | None = Field(None, max_length=4)
    n: int | None = Field(None, ge=1, le=1)
    session_id: str | None = Field(None, pattern=SESSION_ID)

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, limit: int) -> Sampling:
        """The request's sampling parameters; ``InvalidRequest`` when they ask for more than ``limit`` tokens."""
        asked = self.max_completion_tokens or self.max_tokens
        tokens = min(_DEFAULT_TOKENS, limit) if asked is None else asked
        if tokens > limit:
            raise InvalidRequest(f"An answer has at most {limit} tokens here.", "max_tokens")
        if self.min_tokens is not None and self.min_tokens > tokens:
            raise InvalidRequest(f"min_tokens must not be more than max_tokens, which is {tokens}.", "min_tokens")
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_tokens=tokens,
            min_tokens=self.min_tokens,
            seed=self.seed,
            stop=tuple(stop for stop in self.stop or () if stop),
        )


def parse_json(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; ``InvalidRequest`` otherwise."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


def parse_request(value: dict[str, Any], max_messages: int) -> ChatRequest:
    """The request in a decoded body; ``InvalidRequest`` names the first field that is wrong."""
    messages = value.get("messages")
    if isinstance(messages, list) and len(messages) > max_messages:
        raise InvalidRequest(f"At most {max_messages} messages are taken; these are {len(messages)}.", "messages")
    try:
        return ChatRequest.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    param = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        raise InvalidRequest(f"You must provide {param}.", param)
    raise InvalidRequest(f"{param}: {problem['msg'].removeprefix('Value error, ')}.", param)


def count_prompt(messages: Sequence[ChatMessage]) -> int:
    """Tokens of a prompt: the pieces of its messages' texts."""
    return sum(count_pieces(message.content) for message in messages)


def sse(value: dict[str, Any]) -> bytes:
    """One server-sent event with JSON data."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """The JSON of one completion. ``created`` is a Unix time in seconds."""

    id: str
    created: int
    model: str
    prompt_tokens: int
    session_id: str | None = None
    include_usage: bool = False

    def whole(self, text: str, finish_reason: FinishReason, tokens: int) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        return self._envelope("chat.completion", [choice]) | {"usage": self._usage(tokens)}

    def chunk(self, delta: dict[str, str], finish_reason: FinishReason | None = None) -> bytes:
        """One event of a stream: ``delta`` has the role, some content, or nothing in the last one."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        chunk = self._envelope("chat.completion.chunk", [choice])
        return sse(chunk | {"usage": None} if self.include_usage else chunk)

    def usage_chunk(self, tokens: int) -> bytes:
        """The event before the last that ``stream_options.include_usage`` asks for."""
        return sse(self._envelope("chat.completion.chunk", []) | {"usage": self._usage(tokens)})

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        envelope = {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        return envelope if self.session_id is None else envelope | {"session_id": self.session_id}

    def _usage(self, tokens: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
        }
