"""Hold sockets for minutes, cut some again and again, and look for what only time shows: ``python -m loadtests.soak``.

A gateway serves one channel with a history, to which something is published all the time. At each cut some of the
sockets break without a word, and come back to recover. Nothing may be lost or doubled, and once warm the process may
not grow.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from loadtests.bench import machine
from loadtests.bench.followers import Followers
from loadtests.bench.lab import Lab
from loadtests.bench.sides import centrifuge

__all__ = ["main"]

_EXAMPLES = """examples:
  python -m loadtests.soak                              two minutes, 500 sockets
  python -m loadtests.soak --minutes 60 --sockets 5000  an hour, as many as a replica may have"""
_WARM = 0.25
"""Share of the time after which memory is first looked at."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when nothing was lost or doubled and memory stayed within its bound."""
    options = _parse(arguments)
    machine.raise_file_limit()
    machine.pin(0, machine.LOAD_CORE)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # children are stopped on the way out
    with tempfile.TemporaryDirectory(prefix="tidegate-soak-") as folder:
        return uvloop.run(_soak(options, Path(folder)))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.soak",
        description="Hold sockets with cuts for some time; look for loss, doubles and growth.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--rate", type=float, default=5.0, help="messages a second")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two cuts")
    parser.add_argument("--share", type=float, default=0.2, help="share of the sockets that a cut breaks")
    parser.add_argument("--growth", type=float, default=5.0, help="megabytes by which the gateway may grow once warm")
    return parser.parse_args(arguments)


async def _soak(options: argparse.Namespace, folder: Path) -> int:
    with Lab(folder) as lab:
        target = centrifuge(lab.gateway(lab.upstream(1, 1.0)))
        followers = Followers(target, options.sockets)
        await followers.start()
        first = last = None
        cuts = away = 0
        began = time.monotonic()
        async with followers.publishing(options.rate):
            while (passed := time.monotonic() - began) < options.minutes * 60:
                if first is None and passed > _WARM * options.minutes * 60:
                    first = machine.memory(target.pid).rss
                some = random.sample(range(options.sockets), max(1, round(options.share * options.sockets)))
                await followers.cut(some, pause=random.uniform(0, 1))
                cuts += 1
                away += sum(followers.back[number] is None for number in some)
                last = machine.memory(target.pid).rss
                lost = f"{followers.lost} lost, {followers.doubled} doubled, {away} not back"
                print(f"{passed:6.0f} s: {cuts} cuts, {lost}, {last / 2**20:.1f} MB", flush=True)
                await asyncio.sleep(options.every)
        await followers.settle()
        followers.close()
    growth = 0.0 if first is None or last is None else (last - first) / 2**20
    print(
        f"{options.sockets} sockets, {cuts} cuts, {followers.published} messages: {followers.lost} lost, "
        f"{followers.doubled} doubled, {away} not back; grown by {growth:.1f} MB once warm"
    )
    return 1 if followers.lost or followers.doubled or away or growth > options.growth else 0


if __name__ == "__main__":
    sys.exit(main())
