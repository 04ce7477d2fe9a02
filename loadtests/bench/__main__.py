"""The command: ``python -m loadtests.bench``."""

from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from loadtests.bench import machine
from loadtests.bench.channel_scenarios import connect, cut, publish
from loadtests.bench.http_scenarios import models, sse
from loadtests.bench.job_scenarios import previews, progress
from loadtests.bench.kafka_scenarios import kafka
from loadtests.bench.lab import floor_folder, has_valkey
from loadtests.bench.peers.catalogue import PEERS, installed_version
from loadtests.bench.process import ROOT, StartFailed
from loadtests.bench.report import Row
from loadtests.bench.rest_scenarios import flat, limited, paced, rest, streams
from loadtests.bench.results import Circumstances, Measured, keep, kept, report, write_page
from loadtests.bench.scenarios import Plan, fanout, latency, memory, replicas, tokens

_PAGE = ROOT / "docs" / "benchmarks.md"
_SCENARIOS: dict[str, Callable[[Plan], Coroutine[Any, Any, list[Row]]]] = {
    "tokens": tokens,
    "replicas": replicas,
    "latency": latency,
    "memory": memory,
    "rest": rest,
    "limited": limited,
    "flat": flat,
    "paced": paced,
    "streams": streams,
    "sse": sse,
    "models": models,
    "fanout": fanout,
    "publish": publish,
    "connect": connect,
    "cut": cut,
    "progress": progress,
    "previews": previews,
    "kafka": kafka,
}
_WITH_VALKEY = ("replicas", "limited")
_EXAMPLES = """examples:
  python -m loadtests.bench                          everything, 15 to 25 minutes (--rounds 2: a third less)
  python -m loadtests.bench --quick                  everything, smaller and once, within two minutes
  python -m loadtests.bench tokens latency --rounds 5
  python -m loadtests.bench --write                  and put table and plots into docs
  python -m loadtests.bench --write cut              only that one: the page keeps the others as they were

Other servers are measured beside the gateway where they are installed: make bench-peers. TIDEGATE_PEERS names another
folder than .peers for them. TIDEGATE_FLOOR names a folder with reference floor servers (floor/*.py); without it
../shared/bench is looked for, and without that the servers of loadtests/bench/floor.py are the floor. TIDEGATE_KAFKA
names a broker (host:port) to measure with; without it librdkafka's mocked one is."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; return 0, or 1 when a scenario was broken off."""
    options = _parse(arguments)
    machine.raise_file_limit()
    machine.pin(0, machine.LOAD_CORE)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # children are stopped on the way out
    names = [] if options.draw else options.scenarios or list(_SCENARIOS)
    scale = 0.2 if options.quick else options.scale
    file = options.page.with_suffix(".json")
    done, began = [], time.monotonic()
    for place, name in enumerate(names, 1):
        print(f"[{time.monotonic() - began:4.0f} s] {place} of {len(names)}: {name}", file=sys.stderr, flush=True)
        measured = _measure(name, options.rounds or (1 if options.quick else 3), scale)
        done.append(measured)
        if options.write and measured.rows:
            keep(file, measured)
    if options.write or options.draw:
        there = kept(file)
        write_page(options.page, [there[name] for name in _SCENARIOS if name in there])
    if done:
        print(report(done))
    return 1 if any(each.broken for each in done) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="Measure what the gateway costs beside the least that the same work can cost, and other servers.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(_SCENARIOS)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {names}; without any, all")
    parser.add_argument("--rounds", type=int, help="how often each pair is measured (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the sockets and of the time")
    parser.add_argument("--scale", type=float, default=1.0, help="that share of the sockets and of the time")
    parser.add_argument("--write", action="store_true", help="put what is measured into the page, one by one")
    parser.add_argument("--draw", action="store_true", help="measure nothing; write the page anew from what is kept")
    parser.add_argument(
        "--page", type=Path, default=_PAGE, help="the page (docs/benchmarks.md); figures and plots are kept beside it"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenarios if name not in _SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}; there are: {names}")
    if options.quick and options.write:
        parser.error("figures of --quick are too coarse to be written")
    return options


def _measure(name: str, rounds: int, scale: float) -> Measured:
    """Return what one scenario gave; without rows when it could not be measured, or was broken off."""
    began, load = time.monotonic(), os.getloadavg()[0]
    rows: list[Row] = []
    note, broken = "", False
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        plan = Plan(rounds, scale, Path(folder))
        try:
            if name in _WITH_VALKEY and not has_valkey():
                note = "no Valkey or Redis server was found"
            else:
                rows = uvloop.run(_SCENARIOS[name](plan))
        except (StartFailed, OSError) as error:
            print(f"bench: {name} was broken off: {error}", file=sys.stderr)
            note, broken = f"broken off by {type(error).__name__}", True
    versions = {peer.name: installed_version(peer) for peer in PEERS}
    return Measured(name, rows, _circumstances(plan), time.monotonic() - began, load, versions, note, broken)


def _circumstances(plan: Plan) -> Circumstances:
    """Return under which circumstances the figures come about."""
    pinned = f"servers on core {machine.SERVER_CORE}, load on core {machine.LOAD_CORE}"
    if machine.LOAD_CORE is None:
        pinned = "one core only: nothing pinned, servers and load disturb each other"
    floor = (
        "loadtests/bench/floor.py"
        if floor_folder() is None
        else "the reference servers; SSE, fan-out of a stream: floor.py"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "websockets", "orjson"))
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return Circumstances(day, f"{machine.describe()}; {pinned}", versions, floor, plan.rounds, plan.scale)


if __name__ == "__main__":
    sys.exit(main())
