"""What has been measured, kept beside the page that shows it: so a whole benchmark can be made of pieces.

Each scenario is kept with the circumstances under which it was measured; measured again, it replaces what was there.
The page names the circumstances once where all scenarios have the same, and each group's own where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter

from loadtests.bench.peers.catalogue import PEERS
from loadtests.bench.plots import write_plots
from loadtests.bench.report import Row, table, write_between

__all__ = ["Circumstances", "Measured", "keep", "kept", "report", "write_page"]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Where, with what and how scenarios were measured."""

    day: str
    machine: str
    versions: str
    floor: str
    rounds: int
    scale: float

    def __str__(self) -> str:
        rounds = "one round" if self.rounds == 1 else f"{self.rounds} alternating rounds, medians of the sound ones"
        return f"{self.day}: {self.machine}. {self.versions}. Floor: {self.floor}. {rounds}, scale {self.scale:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario: its rows, how long they took, and what the machine's load average was when it began."""

    scenario: str
    rows: Sequence[Row]
    circumstances: Circumstances
    seconds: float
    load: float
    peers: Mapping[str, str | None]
    """Which versions stood beside the gateway, by their names; None: not installed."""
    note: str = ""
    """Why there are no rows."""
    broken: bool = False
    """Something failed, so that the command does, too."""


_KEPT = TypeAdapter(dict[str, Measured])


def keep(path: Path, measured: Measured) -> None:
    """Put one scenario in the file, in place of what was there of it."""
    everything = {**kept(path), measured.scenario: measured}
    path.write_bytes(orjson.dumps(everything, option=orjson.OPT_INDENT_2) + b"\n")


def kept(path: Path) -> dict[str, Measured]:
    """Return what the file holds, by scenario; nothing where there is none."""
    if not path.exists():
        return {}
    return _KEPT.validate_python(_with_nan(orjson.loads(path.read_bytes())))


def report(measured: Sequence[Measured]) -> str:
    """Return the table of all, the circumstances, and the servers that stood beside the gateway."""
    groups: dict[Circumstances, list[Measured]] = {}
    for each in measured:
        groups.setdefault(each.circumstances, []).append(each)
    lines = [table([row for each in measured for row in each.rows]), ""]
    for circumstances, some in groups.items():
        names = "" if len(groups) == 1 else f" ({', '.join(each.scenario for each in some)})"
        loads = sorted(each.load for each in some)
        seconds = sum(each.seconds for each in some)
        lines.append(f"- {circumstances}, {seconds:.0f} s, load average {loads[0]:.2g} to {loads[-1]:.2g}{names}.")
    lines += [f"- {each.scenario} was not measured: {each.note}." for each in measured if each.note]
    return "\n".join([*lines, "", *_servers(measured)])


def write_page(page: Path, measured: Sequence[Measured]) -> None:
    """Put the report between the markers of ``page``, with its plots, which are written to ``plots`` beside it."""
    folder = page.with_name("plots")
    drawn = write_plots(folder, [row for each in measured for row in each.rows])
    images = [f"![{plot.title}]({folder.name}/{plot.file})" for plot in drawn]
    write_between(page, "\n\n".join([report(measured), *images]))


def _servers(measured: Iterable[Measured]) -> list[str]:
    """Return the table of what stood beside the gateway; the version is the one of the last scenario that knows it."""
    there: dict[str, str | None] = {}
    for each in measured:
        there |= {name: version for name, version in each.peers.items() if version or name not in there}
    lines = ["| beside it | version | from | |", "|---|---|---|---|"]
    for peer in PEERS:
        told = there.get(peer.name) or "not installed, so not measured"
        lines.append(f"| {peer.name} | {told} | {peer.source}: `{peer.package}` | {peer.note} |")
    return lines


def _with_nan(value: object) -> object:
    """Return what was read with the numbers that JSON does not have, in the places where they were."""
    if isinstance(value, dict):
        numbers = ("value", "gateway")
        return {name: math.nan if it is None and name in numbers else _with_nan(it) for name, it in value.items()}
    return [_with_nan(each) for each in value] if isinstance(value, list) else value
