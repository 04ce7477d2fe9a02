"""What a client asks for when it starts a generation, checked, and the record that is kept of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.auth.identity import Identity
from app.errors import BadRequest
from app.generations.attachments import Attachments
from app.generations.origin import Origin, parse_origin
from app.limits.shares import Caller
from app.observe.trace_context import TraceContext, parse_traceparent

__all__ = ["Info", "Policy", "StartRequest", "parse_policy"]

_POLICY = re.compile(r"continue|cancel|cancel_after:([0-9]{1,5}(?:\.[0-9]{1,3})?)")
_MAX_KEY = 256


@dataclass(frozen=True, slots=True)
class Policy:
    """``on_last_disconnect``: seconds from the last listener's leaving to the cancel; None for never."""

    cancel_after: float | None


def parse_policy(text: Any) -> Policy:
    """Read ``continue``, ``cancel`` or ``cancel_after:<seconds>``. Raises :exc:`~app.errors.BadRequest`."""
    match = _POLICY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadRequest('on_last_disconnect must be "continue", "cancel" or "cancel_after:<seconds>".')
    if match[0] == "continue":
        return Policy(None)
    return Policy(float(match[1] or 0))


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A start, as every transport hands it in. ``attended``: its asker listens from the first event on."""

    kind: str
    input: Mapping[str, Any]
    upstream: str | None = None
    idempotency_key: str | None = None
    on_last_disconnect: str | None = None
    attended: bool = False
    trace: TraceContext | None = None
    """The trace that it belongs to, if its asker has one."""
    caller: Caller | None = None
    """Who asks, for limits by address or key; None where only his identity is known."""
    origin: Origin | None = None
    """What it begins from; ``from`` on the wire."""
    attachments: Attachments | None = None
    """The files whose marks ``input`` holds."""

    FIELDS = ("kind", "input", "upstream", "idempotency_key", "on_last_disconnect", "traceparent", "from")

    @classmethod
    def parse(cls, value: Mapping[str, Any], *, attended: bool) -> StartRequest:
        """Read a command's or a body's fields. Raises :exc:`~app.errors.BadRequest`, which names the field."""
        kind, input_ = value.get("kind"), value.get("input")
        if not isinstance(kind, str):
            raise BadRequest('kind must be a text, for example "chat".')
        if not isinstance(input_, Mapping):
            raise BadRequest('input must be an object, for example {"message": "Hello"}.')
        key = value.get("idempotency_key")
        if key is not None and not (isinstance(key, str) and 0 < len(key) <= _MAX_KEY):
            raise BadRequest(f"idempotency_key must be a text of 1 to {_MAX_KEY} characters.")
        upstream, policy = value.get("upstream"), value.get("on_last_disconnect")
        if upstream is not None and not isinstance(upstream, str):
            raise BadRequest("upstream must be a text.")
        if policy is not None:
            parse_policy(policy)
        parent = value.get("traceparent")
        trace = parse_traceparent(parent.encode()) if isinstance(parent, str) and parent.isascii() else None
        return cls(kind, input_, upstream, key, policy, attended, trace, origin=parse_origin(value.get("from")))

    async def digest(self) -> bytes:
        """Return a hash of what was asked, so that one key can't stand for two requests."""
        fields = [self.kind, self.input, self.upstream, self.on_last_disconnect]
        try:
            text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
        except (orjson.JSONEncodeError, RecursionError) as error:
            raise BadRequest("input is nested too deeply, or holds what JSON cannot.") from error
        whole = text if self.attachments is None else self.attachments.spliced(text)
        if isinstance(whole, bytes):
            return hashlib.sha256(whole).hexdigest().encode()
        digest = hashlib.sha256()
        async for piece in whole:
            digest.update(piece)
        return digest.hexdigest().encode()


@dataclass(frozen=True, slots=True)
class Info:
    """What the log keeps of a generation beside its events: whose it is and what runs. No text of his."""

    id: str
    kind: str
    user: str | None
    company: str | None
    upstream: str
    created: float
    job: Mapping[str, Any] | None = None
    """What another replica needs to go on with it: ``by``, the place of its configuration, and its ``id`` there."""
    trace: str | None = None
    """Its place in a trace, as ``traceparent`` says it."""
    prompt: int | None = None
    """About how many tokens its prompt is; None where nothing is estimated."""
    spends: Sequence[Sequence[Any]] | None = None
    """Its budgets, each a key, a limit, a window, and what was set aside, for whoever has to settle in place of its
    replica."""
    ticket: str | None = None
    """What that reservation goes by, where it was made before the generation had its id."""

    @property
    def reservation(self) -> str:
        return self.ticket or self.id

    def encode(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> Info:
        fields = orjson.loads(data)
        return cls(**{name: fields.get(name) for name in cls.__slots__})

    def belongs_to(self, identity: Identity) -> bool:
        """A generation is its user's; one that an anonymous caller started is anybody's who knows its id."""
        return self.user is None or (self.user == identity.user_id and self.company == identity.company_id)
