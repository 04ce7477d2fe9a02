"""What a terminal shows while a replay runs, and when it is over."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["View", "show"]

_FAULTS = ("lost", "doubled", "reordered", "leaked", "receipts_wrong", "unfinished", "resumes_failed")
_MILLISECONDS = 1000
_WIDE = 80
"""Columns of a terminal from which on four figures stand in a line."""


class View:
    """A table that keeps itself up to date; lines once in a while where there is no terminal."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._last: tuple[float, int] = (0.0, 0)
        self._rate = 0.0
        self._printed = 0.0

    def __enter__(self) -> View:
        if self._live is not None and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def refresh(self) -> None:
        """Draw now."""
        if self._live is not None:
            self._live.refresh()

    def told(self, figures: dict[str, Any]) -> None:
        """Show the sums of all processes."""
        elapsed, messages = figures["elapsed"], figures.get("messages", 0)
        if elapsed - self._last[0] >= 1.0:
            self._rate = (messages - self._last[1]) / (elapsed - self._last[0])
            self._last = elapsed, messages
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(_table(figures, self._rate, self._console.width))
        elif elapsed - self._printed >= 5.0:
            self._printed = elapsed
            self._console.print(_line(figures, self._rate), highlight=False)


def _line(figures: dict[str, Any], rate: float) -> str:
    faults = ", ".join(f"{figures.get(name, 0)} {name.replace('_', ' ')}" for name in _FAULTS[:4])
    return f"{figures['elapsed']:6.0f} s: {figures.get('open', 0)} open, {rate:,.0f} messages/s, {faults}"


def _table(figures: dict[str, Any], rate: float, width: int) -> Group:
    """Return the figures in as many columns as ``width`` has room for, and what is wrong in a line below."""
    get = figures.get

    def time(name: str) -> str:
        return f"{get(f'{name}_p99', 0) / _MILLISECONDS:,.1f} ms"

    cells = [
        f"[bold]{figures['elapsed']:.0f} s[/]", f"{get('open', 0):,} open", f"{get('users', 0):,} users",
        f"{get('finished_users', 0):,} done", f"{rate:,.0f} messages/s", f"{get('delivered', 0):,} delivered",
        f"{get('streams', 0):,} streams", f"{get('completed', 0):,} completed", f"{get('drops', 0):,} drops",
        f"{get('resumes_right', 0):,} resumed", f"{get('gaps', 0):,} gaps told",
        f"{get('receipts_right', 0):,} receipts right", "99th percentile:", f"first token {time('first_token')}",
        f"added {time('added')}", f"own lag {time('lag')}",
    ]  # fmt: skip
    columns = 4 if width >= _WIDE else 2
    table = Table.grid(padding=(0, 3 if columns > 2 else 1))
    for start in range(0, len(cells), columns):
        table.add_row(*cells[start : start + columns])
    bad = ", ".join(f"{get(name, 0):,} {name.replace('_', ' ')}" for name in _FAULTS if get(name, 0))
    return Group(table, Text(bad, "bold red") if bad else Text("nothing lost, nothing doubled", "green"))


def show(console: Console, verdict: dict[str, Any]) -> None:
    """Print a verdict."""
    get = verdict.get
    table = Table(show_header=False, box=None, padding=(0, 2))
    rows: list[tuple[str, str]] = [
        ("delivered", f"{get('delivered', 0):,} of {get('expected', 0):,}"
                      + (f", and {get('unnumbered', 0):,} without numbers" if get("unnumbered") else "")),
        ("faults", ", ".join(f"{get(name, 0):,} {name.replace('_', ' ')}" for name in _FAULTS)),
        ("resumes", f"{get('resumes_right', 0):,} right, {get('resumes_partial', 0):,} partial, "
                    f"{get('resumes_failed', 0):,} failed; {get('gaps', 0):,} gaps announced"),
        ("receipts", f"{get('receipts_right', 0):,} right, {get('receipts_wrong', 0):,} wrong, "
                     f"{get('receipts_unchecked', 0):,} could not be checked"),
        ("sockets", f"{get('connected', 0):,} opened, {get('refused', 0):,} refused, {get('drops', 0):,} dropped, "
                    f"{get('lost_sockets', 0):,} by the server"),
    ]  # fmt: skip
    for name in ("connect", "subscribe", "first_token", "inter_token", "added", "reconnect", "rest"):
        if f"{name}_p50" in verdict:
            values = [get(f"{name}_{share}", 0.0) for share in ("p50", "p90", "p99", "max")]
            rows.append(
                (name.replace("_", " "), "p50 {:,.1f}, p90 {:,.1f}, p99 {:,.1f}, most {:,.1f} ms".format(*values))
            )
    speed = f"{get('messages_per_second', 0):,.0f} messages/s, {get('bytes_per_message', 0):,.0f} bytes each"
    rows.append(("speed", speed))
    for name, server in (get("servers") or {}).items():
        used = f"CPU {server['cpu_share']:.0%}, memory {server['memory_most'] / 1e6:,.1f} MB at the most"
        rows.append((name, used))
    for name in ("close_codes", "gap_reasons", "refusals", "errors", "divergences"):
        for what, count in sorted((get(name) or {}).items(), key=lambda item: -item[1])[:5]:
            rows.append((name.replace("_", " "), f"{count:,} × {what}"))
    for name, value in rows:
        table.add_row(name, value)
    console.print(table, highlight=False)
    for each in get("warnings") or ():
        console.print(f"note: {each}", markup=False, highlight=False)
    for each in get("doubts") or ():
        console.print(f"VOID: {each}", markup=False, highlight=False)
