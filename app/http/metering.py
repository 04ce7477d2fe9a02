"""Proxied calls of language models: their tokens reserved before they are passed on, and settled when they have ended.

The beginning of the request is read ahead, and given again to whoever passes the body on. The answer is read as it
passes, unchanged and without delay; so that it can be, the upstream is asked not to compress it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.types import Receive, Scope

from app.errors import BudgetExhausted, TidegateError, UpstreamTimeout
from app.http.ahead import again, read_messages
from app.http.cache.flight import Answer
from app.http.stream_endings import StreamEnding
from app.http.token_cut import TokenCut
from app.http.token_usage import CallUsage, UsageReader
from app.limits.calls import TokenCall, read_call
from app.limits.limits import Limits, Verdict, Wanted
from app.observe.outcomes import Ended, Outcome

__all__ = ["Metered", "TokenMeter", "read_ahead", "uncompressed"]

_AHEAD = 1024 * 1024
"""Bytes of a request's body that are read ahead."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


async def read_ahead(scope: Scope, receive: Receive) -> tuple[TokenCall | None, Receive]:
    """Return what a request asks for, and a ``receive`` that gives its body from the beginning.

    None for requests without a body, which use no tokens. Raises :exc:`~app.http.client_watch.ClientGone`.
    """
    if scope["method"] not in _WITH_BODY:
        return None, receive
    messages, body = await read_messages(receive, _AHEAD)
    whole = not (messages and messages[-1].get("more_body", False))
    return read_call(body, whole), again(messages, receive)


class TokenMeter:
    """The tokens of one request."""

    def __init__(self, call: TokenCall) -> None:
        self.call = call
        self._reader: UsageReader | None = None
        self._answer: Metered | None = None

    @property
    def wanted(self) -> Wanted:
        """What is to be reserved. Who says how long his answer may become is not let in for less."""
        return Wanted(self.call.prompt, self.call.answer, whole=self.call.answer is not None)

    def read(self, answer: Answer, limits: Limits | None, verdict: Verdict | None) -> Answer:
        """Return ``answer``, read as it passes, and cut off where ``verdict``'s reservation is used up."""
        fields = dict(answer.headers)
        reservation = None if verdict is None else verdict.reservation
        bounded = self.call.streamed and reservation is not None and b"content-length" not in fields
        ending = StreamEnding(usage=self.call.wants_usage) if bounded else None
        reader = UsageReader(self.call, answer.status, fields.get(b"content-type", b""), ending)
        cut = None
        if bounded and limits is not None and reservation is not None:
            cut = TokenCut(limits, reservation, self.call, reader)
        self._reader, self._answer = reader, Metered(answer, reader, cut)
        return self._answer

    def settle(self, limits: Limits | None, verdict: Verdict | None, outcome: Outcome, error: object) -> None:
        """Say what was used: to ``outcome``, and to the budgets, if any. ``error`` is why there is no answer."""
        reservation = None if verdict is None else verdict.reservation
        reserved = (reservation and reservation.granted) or self.call.prompt + (self.call.answer or 0)
        usage = self._usage(reserved, outcome, error)
        outcome.prompt_tokens, outcome.completion_tokens = usage.prompt, usage.completion
        outcome.usage_source = usage.source
        if self._answer is not None and self._answer.cut_off:
            outcome.ended, outcome.error = Ended.REFUSED, BudgetExhausted.code
        if limits is not None and verdict is not None:
            limits.release(verdict, usage.total)

    def _usage(self, reserved: int, outcome: Outcome, error: object) -> CallUsage:
        if self._reader is not None and self._answer is not None:
            return self._reader.usage(complete=self._answer.complete, reserved=reserved)
        nothing = CallUsage(0, 0, "estimated")
        if not outcome.attempts or (isinstance(error, TidegateError) and not isinstance(error, UpstreamTimeout)):
            return nothing  # No upstream has taken it.
        if self.call.streamed:
            return CallUsage(self.call.prompt, 0, "estimated")
        return CallUsage(self.call.prompt, max(0, reserved - self.call.prompt), "estimated")


class Metered:
    """An answer that is read as it passes. ``cut_off``: the gateway ended it, for want of tokens."""

    def __init__(self, answer: Answer, reader: UsageReader, cut: TokenCut | None = None) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.cut_off = False
        self._answer = answer
        self._reader = reader
        self._cut = cut

    @property
    def complete(self) -> bool:
        return self.cut_off or self._answer.complete

    async def read(self) -> bytes:
        data = await self._answer.read()
        if data:
            self._reader.feed(data)
            if self._cut is not None and not self._answer.complete:
                last = await self._cut.passed(data)
                if last is not None:
                    self.cut_off = True
                    self._answer.abort()
                    return last
        return data

    def abort(self) -> None:
        self._answer.abort()


def uncompressed(scope: Scope) -> Scope:
    """Return the request as it is passed on, so that its answer can be read."""
    headers = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
    changed: MutableMapping[str, Any] = {**scope, "headers": [*headers, (b"accept-encoding", b"identity")]}
    return changed
