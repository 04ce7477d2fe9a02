"""The command: ``python -m loadtests.bench``."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import uvloop

from loadtests.bench import machine
from loadtests.bench.channel_scenarios import connect, cut, publish
from loadtests.bench.http_scenarios import models, sse
from loadtests.bench.job_scenarios import previews, progress
from loadtests.bench.lab import floor_folder, has_valkey
from loadtests.bench.peers.catalogue import PEERS, installed_version
from loadtests.bench.plots import write_plots
from loadtests.bench.process import ROOT, StartFailed
from loadtests.bench.report import Row, table, write_between
from loadtests.bench.rest_scenarios import flat, limited, paced, rest, streams
from loadtests.bench.scenarios import Plan, fanout, latency, memory, replicas, tokens

_PAGE = ROOT / "docs" / "benchmarks.md"
_PLOTS = _PAGE.with_name("plots")
_SCENARIOS: dict[str, Callable[[Plan], Awaitable[list[Row]]]] = {
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
}
_EXAMPLES = """examples:
  python -m loadtests.bench                          everything, about ten minutes
  python -m loadtests.bench --quick                  everything, smaller and once, within a minute
  python -m loadtests.bench tokens latency --rounds 5
  python -m loadtests.bench --write                  and put table and plots into docs

TIDEGATE_FLOOR names a folder with reference floor servers (floor/*.py); without it ../shared/bench is looked for, and
without that the servers of loadtests/bench/floor.py are the floor."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; return 0, or 1 when a server did not start."""
    options = _parse(arguments)
    machine.raise_file_limit()
    machine.pin(0, machine.LOAD_CORE)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # children are stopped on the way out
    rounds = options.rounds or (1 if options.quick else 3)
    scale = 0.2 if options.quick else options.scale
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        plan = Plan(rounds, scale, Path(folder))
        try:
            rows, notes = uvloop.run(_measure(options.scenarios or list(_SCENARIOS), plan))
        except StartFailed as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    text = "\n".join([table(rows), "", *notes])
    print(text)
    if options.write:
        drawn = [f"![{plot.title}]({_PLOTS.name}/{plot.file})" for plot in write_plots(_PLOTS, rows)]
        write_between(_PAGE, "\n\n".join([text, *drawn]))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="Measure what the gateway costs beside the least that the same work can cost.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(_SCENARIOS)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of: {names}; without any, all")
    parser.add_argument("--rounds", type=int, help="how often each pair is measured (3; with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the sockets and of the time")
    parser.add_argument("--scale", type=float, default=1.0, help="that share of the sockets and of the time")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md, and plots beside it"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.scenarios if name not in _SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}; there are: {names}")
    return options


async def _measure(names: Sequence[str], plan: Plan) -> tuple[list[Row], list[str]]:
    """Return the rows of the named scenarios, and under which circumstances they came about."""
    rows: list[Row] = []
    notes: list[str] = []
    began = time.monotonic()
    for name in names:
        if name in ("replicas", "limited") and not has_valkey():
            notes.append(f"No Valkey or Redis server was found: {name} was not measured.")
            continue
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        rows += await _SCENARIOS[name](plan)
    return rows, [*_circumstances(plan, time.monotonic() - began), *notes, "", *_peers()]


def _peers() -> list[str]:
    """Return the table of what stood beside the gateway."""
    lines = ["| beside it | version | from | |", "|---|---|---|---|"]
    for peer in PEERS:
        there = installed_version(peer) or "not installed, so not measured"
        lines.append(f"| {peer.name} | {there} | {peer.origin}: `{peer.package}` | {peer.note} |")
    return lines


def _circumstances(plan: Plan, seconds: float) -> list[str]:
    """Return under which circumstances the table came about."""
    pinned = f"servers on core {machine.SERVER_CORE}, load on core {machine.LOAD_CORE}"
    if machine.LOAD_CORE is None:
        pinned = "one core only: nothing pinned, servers and load disturb each other"
    floor = (
        "loadtests/bench/floor.py"
        if floor_folder() is None
        else "the reference servers; SSE, fan-out of a stream: floor.py"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "websockets", "orjson"))
    with contextlib.suppress(OSError):
        versions += f", load average {Path('/proc/loadavg').read_text().split()[0]}"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return [
        f"{today}: {machine.describe()}; {pinned}.",
        f"{versions}. Floor: {floor}. Medians of the sound ones of {plan.rounds} alternating rounds, "
        f"scale {plan.scale:g}, {seconds:.0f} s in all.",
    ]


if __name__ == "__main__":
    sys.exit(main())
