"""What one generation uses: counted as it goes, told at every ending, and held to its budgets.

Budgets are of tokens, of images (the results), or of seconds that its upstream works. The upstream's own figures of
tokens count where it sends them; otherwise the texts are estimated, and what is estimated says so.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from time import monotonic

from app.config.limits import Unit
from app.generations.allowance import Allowance
from app.generations.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    FilePatch,
    FileSet,
    Usage,
)
from app.generations.receipt import Snapshot
from app.limits.calls import TokenCall, read_call
from app.limits.estimate import TokenCounter

__all__ = ["Meter", "usage_of"]

_STRIDE = 64
"""Characters between two looks at the budget."""
_SLACK = 16
"""Tokens by which a text may be estimated too high before the upstream's own figure is doubted."""


class Meter:
    """``body`` is the upstream's request. ``texts``: its tokens are told and settled, if only those of the request.

    ``call`` is what another replica knew of the body.
    """

    def __init__(
        self,
        body: bytes = b"",
        *,
        texts: bool = False,
        allowance: Allowance | None = None,
        call: TokenCall | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.allowance = allowance
        self.made = 0
        """Results so far."""
        self._body = body
        self.texts = texts
        self._call = call
        self._clock = clock
        self._since: float | None = None
        """When the upstream was asked; None while it was not."""
        self._worked = 0.0
        """Seconds that it had worked for another replica."""
        self._stopped: float | None = None
        self._counter = TokenCounter()
        self._usage: Usage | None = None
        """What is to be told, with what was spent before."""
        self._spent: Usage | None = None
        """By upstreams that were left for another one."""
        self._counted = 0
        """Tokens of their texts."""
        self._looked = 0
        self._bounded = allowance is not None and allowance.bounded
        if self._bounded or call is not None:
            self._counter.model = self.call.model

    @property
    def unit(self) -> Unit:
        return "tokens" if self.allowance is None else self.allowance.unit

    @property
    def ticks(self) -> bool:
        """Whether it is to be checked while nothing comes, too."""
        nothing = self.allowance is not None and self.allowance.exhausted
        return self._bounded and (nothing or self.unit == "seconds")

    @property
    def asked(self) -> bool:
        """Whether the upstream may have begun to work."""
        return self._since is not None

    def ask(self, check: Callable[[], None]) -> None:
        """The upstream is asked now. ``check`` is called when :meth:`check` may say otherwise than before."""

        def again() -> None:
            self._looked = -_STRIDE
            check()

        self._since = self._clock()
        if self.allowance is not None:
            self.allowance.on_answer = again

    def resume(self, told: Snapshot, worked: float) -> None:
        """Another replica has run it for ``worked`` seconds; its log is ``told``."""
        for text in (told.text, told.reasoning, told.tools, *told.files.texts.values()):
            self.add(text)
        self.made, self._worked = len(told.artifacts), worked

    def add(self, text: str) -> None:
        """More text of any kind came."""
        self._counter.add(text)

    def follow(self, event: FileSet | FilePatch) -> None:
        """A file was written, or went on."""
        self._counter.add(event.text if isinstance(event, FileSet) else event.inserted)

    def take(self, usage: Usage) -> bool:
        """Take the upstream's own figures; False where they cannot be true."""
        if self._tokens > 2 * usage.completion_tokens + _SLACK:
            return False
        self._usage = _sum(self._spent, usage)
        return True

    @property
    def usage(self) -> Usage:
        """What was told last."""
        assert self._usage is not None, "the caller was told"
        return self._usage

    def switch(self, usage: Usage | None) -> Usage | None:
        """Another upstream goes on. Return what was used by now; ``usage`` is what the one before said at its end."""
        if usage is None or not self.take(usage):
            if self._usage is None and self._tokens:
                self._usage = self._estimated()
            elif self._usage is None:
                self._usage = self._spent
        self._spent, self._usage = self._usage, None
        self._counted = self._counter.tokens
        self._looked = -_STRIDE
        return self._spent

    @property
    def _tokens(self) -> int:
        return self._counter.tokens - self._counted

    def _estimated(self) -> Usage:
        return _sum(self._spent, Usage(self.call.prompt, self._tokens, "estimated"))

    def check(self) -> tuple[list[Event], bool]:
        """Return warnings to be told, and whether it may go on."""
        if not self._bounded:
            return [], True
        assert self.allowance is not None, "it is bounded"
        if self.allowance.exhausted:
            return [], False
        if self.unit == "tokens":
            if self._counter.characters - self._looked < _STRIDE:
                return [], True
            self._looked = self._counter.characters
        used = self._used()
        return list(self.allowance.warnings(used)), self.allowance.spend(used)

    def _used(self) -> int:
        """Return what is gone by now, in the budgets' unit."""
        if self.unit == "images":
            return self.made
        if self.unit == "seconds":
            now = self._clock() if self._stopped is None else self._stopped
            return ceil(self._worked + (0.0 if self._since is None else now - self._since))
        return self.call.prompt + self._tokens + _total(self._spent)

    def at_end(self, terminal: Completed | Failed | Cancelled) -> Usage | None:
        """Return the usage to be told before ``terminal``, where the upstream has told none."""
        if self._usage is not None:
            return None
        if not self._tokens and not (self.texts and self.asked and not isinstance(terminal, Failed)):
            self._usage = self._spent
        else:
            self._usage = self._estimated()
        return self._usage

    def late(self, usage: Usage) -> bool:
        """Take what the upstream says after the end; False where it is nothing better."""
        if self._usage is None or self._usage.source == "estimated":
            return self.take(usage)
        return False

    @property
    def exact(self) -> bool:
        """Whether the upstream has told its own figures."""
        return self._usage is not None and self._usage.source == "provider"

    def free(self) -> None:
        """It does not run any more: others may."""
        self._stopped = self._clock() if self._stopped is None else self._stopped
        if self.allowance is not None:
            self.allowance.end()

    def settle(self) -> None:
        """Tell the budgets what was used, at the end."""
        if self.allowance is not None:
            self.allowance.settle(_total(self._usage) if self.unit == "tokens" else self._used())

    def leave(self) -> None:
        """It goes on elsewhere, or was ended there, where it is settled, too."""
        if self.allowance is not None:
            self.allowance.forget()

    @property
    def call(self) -> TokenCall:
        if self._call is None:
            self._call = read_call(self._body, True)
            self._counter.model = self._call.model
            self._body = b""
        return self._call


def usage_of(prompt: int, *texts: str, spent: Usage | None = None) -> Usage | None:
    """Return the estimated usage of a generation that others have to account for.

    ``texts`` are what its last upstream said, ``spent`` is what was used before. None where nothing was.
    """
    if not any(texts):
        return spent
    counter = TokenCounter()
    for text in texts:
        counter.add(text)
    return _sum(spent, Usage(prompt, counter.tokens, "estimated"))


def _sum(spent: Usage | None, usage: Usage) -> Usage:
    if spent is None:
        return usage
    source = usage.source if usage.source == spent.source else "estimated"
    return Usage(spent.prompt_tokens + usage.prompt_tokens, spent.completion_tokens + usage.completion_tokens, source)


def _total(usage: Usage | None) -> int:
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
