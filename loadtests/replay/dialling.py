"""How a page gets its next socket: which replica, whose token, and how long it waits after a failure."""

from __future__ import annotations

import errno
import random

from loadtests.replay.line import LineOwner, Refused
from loadtests.replay.opening import open_line
from loadtests.replay.run import Run, microseconds
from loadtests.replay.tokens import TokensFailed

__all__ = ["Dialler"]

_BACKOFF, _LONGEST = 0.5, 20.0
"""Seconds: full jitter up to the first, doubled by each failure, at most the second."""
_SIGNED = "bearer."


class Dialler:
    """Opens the sockets of one page of the user ``number``, one after the other."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number
        self.fresh = False
        """Whether the next socket needs another token."""
        self.token = ""
        self.sockets = 0
        """How many were tried."""
        self.attempts = 0
        """How many of them since the last that was of use."""
        self.began = 0
        """When the last one was begun, in microseconds."""
        slow = run.options.slow
        self._rate = slow.rate if slow is not None and _spread(number) < slow.share else None

    async def connect(self, owner: LineOwner) -> float | None:
        """Try once; return the seconds until the next attempt, or None when a socket is open."""
        run, options = self._run, self._run.options
        self.began = microseconds()
        address = run.addresses[(self._number + self.sockets) % len(run.addresses)]
        self.sockets += 1
        try:
            token = self.token = await run.tokens.get(self._number, fresh=self.fresh)
            await open_line(
                owner, address, token=token, subprotocols=run.header.subprotocols, headers=self._headers(token),
                rate=self._rate, within=options.connect_timeout, poller=run.poller, memo=run.memo,
                tally=run.tally,
            )  # fmt: skip
        except Refused as refused:
            run.tally.note("refusals", str(refused))
            return max(self.backoff(), refused.retry_after or 0.0)
        except TimeoutError:
            run.tally.note("refusals", f"no answer within {options.connect_timeout:g} s")
        except TokensFailed as error:
            run.tally.note("refusals", f"no token: {error}")
        except OSError as error:
            run.tally.note("refusals", errno.errorcode.get(error.errno or 0, type(error).__name__))
        else:
            return None
        return self.backoff()

    def backoff(self) -> float:
        """Return the seconds until the next attempt, more after each."""
        self.attempts += 1
        return random.uniform(0, min(_LONGEST, _BACKOFF * 2 ** min(self.attempts, 10)))

    def _headers(self, token: str) -> dict[str, str]:
        """Return what the handshake has beside its own. The token is there unless it goes another way."""
        run = self._run
        elsewhere = (
            run.header.protocol == "centrifuge" or run.plan.auth_message
            or any(_SIGNED in each for each in run.header.subprotocols)
        )  # fmt: skip
        own = {} if elsewhere or not token else {"Authorization": f"Bearer {token}"}
        return {**own, **run.options.headers}


def _spread(number: int) -> float:
    """Return a number in [0, 1) for a user, so that any share of them is spread evenly over all."""
    return (number * 0.6180339887498949) % 1.0
