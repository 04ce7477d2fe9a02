"""What a back end asks over the server API, read and checked; the forms are Centrifugo's.

Members that are not known are ignored: clients of later versions send more of them.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "BAD_REQUEST",
    "BatchRequest",
    "BroadcastRequest",
    "Channel",
    "ChannelRequest",
    "ChannelsRequest",
    "Fault",
    "HistoryRequest",
    "InfoRequest",
    "PublishRequest",
    "Request",
    "Since",
    "json_text",
    "parse",
]

BAD_REQUEST = 107
_LONGEST_CHANNEL = 255
_LARGEST = 2**64 - 1
_T = TypeVar("_T", bound=BaseModel)


class Fault(Exception):
    """A request is answered by an error; the codes are those of the Centrifuge protocol."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _checked_channel(channel: str) -> str:
    if not channel.isprintable() or " " in channel:
        raise ValueError("has no spaces and no control characters")
    return channel


Channel = Annotated[str, Field(min_length=1, max_length=_LONGEST_CHANNEL), AfterValidator(_checked_channel)]


class Request(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)


class _Message(Request):
    """A message to publish. ``b64data`` is JSON text in base64 and goes before ``data``.

    ``delta`` changes nothing: the channel's settings and its subscribers say where deltas are made.
    """

    data: Any = None
    b64data: str = ""
    skip_history: bool = False
    delta: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    idempotency_key: str = Field("", max_length=512)
    version: int = Field(0, ge=0, le=_LARGEST)
    version_epoch: str = Field("", max_length=512)

    def payload(self) -> bytes:
        """Return the message's data as JSON text. Raises :exc:`Fault`."""
        if not self.b64data and "data" not in self.model_fields_set:
            raise Fault(BAD_REQUEST, "bad request: data is missing")
        return json_text("data", self.data, self.b64data)


class PublishRequest(_Message):
    channel: Channel


class BroadcastRequest(_Message):
    channels: list[Channel] = Field(min_length=1)


class ChannelRequest(Request):
    """For ``presence``, ``presence_stats`` and ``history_remove``."""

    channel: Channel


class Since(Request):
    offset: int = Field(0, ge=0, le=_LARGEST)
    epoch: str = ""


class HistoryRequest(Request):
    """``limit`` 0 asks for the position alone, a negative one for all that is kept."""

    channel: Channel
    limit: int = Field(0, ge=-(2**31), le=2**31 - 1)
    since: Since | None = None
    reverse: bool = False


class ChannelsRequest(Request):
    pattern: str = Field("", max_length=256)


class InfoRequest(Request):
    pass


class BatchRequest(Request):
    """Each command is an object with one member, whose name is the method."""

    commands: list[dict[str, Any]]
    parallel: bool = False


def json_text(name: str, value: Any, encoded: str) -> bytes:
    """Return ``value``, or the JSON text whose base64 ``encoded`` is, as JSON text. Raises :exc:`Fault`."""
    try:
        if encoded:
            return orjson.dumps(orjson.loads(base64.b64decode(encoded, validate=True)))
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        raise Fault(BAD_REQUEST, f"bad request: {name} is nested too deeply") from None
    except (binascii.Error, ValueError):
        raise Fault(BAD_REQUEST, f"bad request: b64{name} is no JSON text in base64") from None


def parse(kind: type[_T], body: Any) -> _T:
    """Read a request. A member that is null is as good as absent. Raises :exc:`Fault`."""
    if not isinstance(body, dict):
        raise Fault(BAD_REQUEST, "bad request: not an object")
    given = {name: value for name, value in body.items() if value is not None or name == "data"}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Fault(BAD_REQUEST, f"bad request: {where}: {first['msg']}") from None
