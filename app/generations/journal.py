"""What one generation says, as it is written down: each event once, in order, and nothing after the terminal.

From the claim on the replica that runs a generation is its stream's only writer, so the offsets are given here; local
listeners have an event before :meth:`Journal.write` returns.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import OutputTooLong
from app.generations.account import Account
from app.generations.event_json import encode, encode_delta, name_of
from app.generations.events import (
    TERMINALS,
    Artifact,
    Cancelled,
    Completed,
    Delta,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Mode,
    Preview,
    Reset,
    Started,
    Switched,
    Usage,
)
from app.generations.lifecycle import Lifecycle, State
from app.generations.previews import PreviewShelf
from app.generations.receipt import ReceiptBuilder, Snapshot
from app.streams.broker import Ledger, OwnedStream

__all__ = ["Journal"]


class Journal:
    """``max_bytes`` bounds the log; ``account`` is told what is used. ``told`` is what the log holds already."""

    def __init__(
        self,
        owned: OwnedStream,
        ledger: Ledger,
        account: Account,
        shelf: PreviewShelf,
        *,
        max_bytes: int,
        told: Snapshot | None = None,
    ) -> None:
        self.owned = owned
        self.account = account
        self._ledger = ledger
        self._shelf = shelf
        self._room = max_bytes
        self._lifecycle = Lifecycle()
        self._receipt = ReceiptBuilder(told)
        if told is not None and told.status is State.STARTED:
            self._lifecycle.move(State.STARTED)
            account.resume(told.model, told.usage)

    @property
    def state(self) -> State:
        return self._lifecycle.state

    @property
    def over(self) -> bool:
        """Whether the terminal was written."""
        return self._lifecycle.ended

    def write(self, events: Sequence[Event]) -> None:
        """Publish ``events`` at once, in one batch; what follows a terminal is left out.

        Raises :exc:`~app.errors.OutputTooLong` when they were more than may be.
        """
        items: list[bytes] = []
        meter, receipt = self.account.meter, self._receipt
        for event in events:
            if type(event) is Delta:
                if event.part == "text":
                    receipt.add(event.text)
                meter.add(event.text)
                item = encode_delta(event.text, event.part)
            elif isinstance(event, TERMINALS):
                self._close(items, event)
                return
            elif (text := self._remember(event)) is not None:
                item = text
            else:
                continue
            self._room -= len(item)
            items.append(item)
        if items:
            self._ledger.append(self.owned, items)
        if self._room < 0:
            raise OutputTooLong

    def switch(self, to: str, mode: Mode, code: str, usage: Usage | None, *, reset: bool) -> None:
        """As :meth:`~app.generations.sources.port.Outlet.switch`."""
        before = self.account.upstream
        items = [encode(Switched(before, to, mode, code, self.account.switch(to, mode, usage)))]
        if reset:
            items.append(encode(Reset(self._receipt.characters)))
            self._receipt.begin_again()
        self._room -= sum(map(len, items))
        self._ledger.append(self.owned, items)

    def _remember(self, event: Event) -> bytes | None:
        """Return its text as it is told; None for what is not."""
        if type(event) is Started:
            self._lifecycle.move(State.STARTED)
            self.account.start(event.model)
        elif type(event) is Usage:
            usage = self.account.bill(event)
            return None if usage is None else encode(usage)
        elif isinstance(event, FileSet | FilePatch):
            self._receipt.follow(event)
            self.account.meter.follow(event)
        elif type(event) is Artifact:
            self.account.meter.made += 1
        elif type(event) is Preview:
            shown = self._shelf.placed(event)
            return None if shown is None else encode(shown)
        return encode(event)

    def _close(self, items: list[bytes], terminal: Completed | Failed | Cancelled) -> None:
        """Publish the last batch: ``items``, the usage if nobody has told it, and the terminal."""
        self._lifecycle.move(State(name_of(terminal)))
        if (usage := self.account.close(terminal)) is not None:
            items.append(encode(usage))
        receipt = self._receipt.seal(self.owned.top + len(items) + 1)
        self._ledger.append(self.owned, [*items, encode(terminal, receipt)], close=True)
        self.account.end(self._lifecycle.state, terminal)
