"""A call that another upstream goes on with, in the same sequence of offsets, when the one before fails.

An answer that has begun can't be asked for a second time behind the reader's back: two beginnings would be one text. So
the reader is told. ``restart``: what was said is void, and the next upstream begins anew. ``continue``: the next one
is given the text so far as the beginning of its own answer, and what it says follows it; where more than text was said,
a call of a tool or a file, it begins anew all the same. A request that is refused for what it is goes to nobody else.
Switches are bounded, and so is the whole: ``total_timeout`` and the budgets run on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from app.errors import UpstreamError, UpstreamTimeout
from app.generations.events import (
    Artifact,
    Audio,
    Delta,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Mode,
    Preview,
    Progress,
    Usage,
)
from app.generations.sources.port import Outlet, Post, Transport
from app.generations.sources.stream import Call, StreamSource

__all__ = ["FailoverSource", "Plan"]

_log = structlog.get_logger(__name__)
_PAUSE = 0.1
"""Seconds before an upstream that has just failed is asked again, times the number of the switch."""
_HALF = Delta("\ufffd")
_WORK = (FileSet, FilePatch, Artifact, Audio)
"""What no text can be gone on from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who goes on. ``others`` are asked in turn, from the first again after the last; none: the same upstream."""

    mode: Mode
    others: Sequence[str]
    switches: int
    """How often at most."""
    call: Callable[[str, str], Call]
    """(upstream, the text so far) → the call that goes on."""


class _Lost(Exception):
    """The answer broke off."""

    def __init__(self, code: str, usage: Usage | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.usage = usage


class FailoverSource:
    """:class:`~app.generations.sources.port.Source` of one call that may become several."""

    def __init__(self, call: Call, plan: Plan) -> None:
        self._call = call
        self._plan = plan

    @property
    def upstream(self) -> str:
        return self._call.upstream

    async def run(self, transport: Transport, outlet: Outlet) -> None:
        said = _Said(outlet, keeps=self._plan.mode == "continue")
        for number in range(self._plan.switches):
            said.last = False
            try:
                await self._try(transport, said)
            except _Lost as lost:
                await self._switch(said, number, lost)
            except UpstreamError as error:
                if not error.retryable or outlet.ended:
                    raise
                await self._switch(said, number, _Lost(error.code))
            else:
                return
        said.last = True
        await self._try(transport, said)

    async def stop(self, transport: Transport) -> None:
        """Nothing: the connection is closed."""

    def take(self, post: Post) -> bool:
        return False

    async def _try(self, transport: Transport, said: _Said) -> None:
        try:
            async with asyncio.timeout(self._call.patience.first_event) as said.limit:
                await StreamSource(self._call).run(transport, said)
        except TimeoutError:
            raise UpstreamTimeout from None
        finally:
            said.limit = None

    async def _switch(self, said: _Said, number: int, lost: _Lost) -> None:
        plan, before = self._plan, self.upstream
        to = plan.others[number % len(plan.others)] if plan.others else before
        reset = said.anything and (plan.mode == "restart" or not said.continuable)
        if reset:
            said.begin_again()
        mode: Mode = "restart" if reset else plan.mode
        _log.warning("a generation goes on with another upstream", before=before, to=to, mode=mode, cause=lost.code)
        said.outlet.switch(to, mode, lost.code, lost.usage, reset=reset)
        prefix = said.prefix() if mode == "continue" else ""
        self._call = plan.call(to, prefix)
        if to == before:
            await asyncio.sleep(_PAUSE * (number + 1))


class _Said:
    """The :class:`~app.generations.sources.port.Outlet` of all calls together: keeps what the next one needs."""

    def __init__(self, outlet: Outlet, *, keeps: bool) -> None:
        """``keeps``: the text itself is needed, and not only whether there is any."""
        self.outlet = outlet
        self._keeps = keeps
        self.limit: asyncio.Timeout | None = None
        """Of the first event."""
        self.last = False
        """Whether nobody goes on after this one."""
        self._texts: list[str] = []
        self._other = self._work = False
        self._overlap = ""
        """White space that the text ended with, and its continuation may begin with."""

    @property
    def ended(self) -> bool:
        return self.outlet.ended

    @property
    def anything(self) -> bool:
        """Whether readers have something that a new beginning makes void."""
        return bool(self._texts) or self._other or self._work

    @property
    def continuable(self) -> bool:
        return bool(self._texts) and not self._work

    def begin_again(self) -> None:
        self._texts.clear()
        self._other = self._work = False
        self._overlap = ""

    def prefix(self) -> str:
        """Return the text so far without the white space at its end, which models refuse or say again."""
        text = "".join(self._texts)
        self._texts = [text] if text else []
        prefix = text.rstrip()
        self._overlap = text[len(prefix) :]
        return prefix

    def tell(self, events: Sequence[Event], model: str | None = None) -> None:
        if self.limit is not None:
            self.limit.reschedule(None)
            self.limit = None
        if events and not self.last and not self.ended:
            end = events[-1]
            if isinstance(end, Failed) and end.retryable:
                self._tell_rest(events[:-1], model)
                raise _Lost(end.code, next((it for it in events if isinstance(it, Usage)), None))
        self.outlet.tell(self._keep(events), model)

    def switch(self, to: str, mode: Mode, code: str, usage: Usage | None, *, reset: bool) -> None:
        self.outlet.switch(to, mode, code, usage, reset=reset)

    async def note(self, job: Mapping[str, Any]) -> None:
        await self.outlet.note(job)

    def _tell_rest(self, events: Sequence[Event], model: str | None) -> None:
        """Tell what came along with the end, where it is gone on from; half a character is not."""
        events = [it for it in events if not isinstance(it, Usage) and it != _HALF]
        if self._keeps and events:
            self.outlet.tell(self._keep(events), model)

    def _keep(self, events: Sequence[Event]) -> Sequence[Event]:
        kept: list[Event] = []
        for event in events:
            if type(event) is Delta:
                if event.part == "text" and self._overlap and not self._trim(event):
                    continue
                if event.part == "text" and self._keeps:
                    self._texts.append(event.text)
                self._other = True
                self._work = self._work or event.part == "tool"
            elif isinstance(event, _WORK):
                self._work = True
            elif isinstance(event, Progress | Preview):
                self._other = True
            kept.append(event)
        return kept

    def _trim(self, event: Delta) -> bool:
        """Take off ``event`` what the text ended with already; False when nothing is left."""
        overlap, text = self._overlap, event.text
        if overlap.startswith(text):
            self._overlap = overlap[len(text) :]
            return False
        self._overlap = ""
        if text.startswith(overlap):
            event.text = text[len(overlap) :]
        return bool(event.text)
