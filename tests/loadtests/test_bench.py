"""The benchmark, so small that it measures nothing: it must run, and it must not believe what it should not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.client import Tally
from loadtests.bench.report import Figure, Limit, pair, table, write_between

ROOT = Path(__file__).resolve().parents[2]


def test_a_tiny_benchmark_runs_from_end_to_end_without_the_reference_floor(tmp_path: Path) -> None:
    environment = {**os.environ, "TIDEGATE_FLOOR": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "loadtests.bench", "latency", "--scale", "0.02", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "latency: 4 sockets × 50/s, age of a token, p50, ms" in done.stdout
    assert "did not arrive" not in done.stdout
    assert "nan" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scenario_is_a_wrong_command_line() -> None:
    command = [sys.executable, "-m", "loadtests.bench", "nonsense"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "there is no scenario 'nonsense'" in done.stderr


def test_doubtful_rounds_are_left_out() -> None:
    ours = [Figure(30.0), Figure(5.0, ("others were at work",)), Figure(32.0)]
    theirs = [Figure(10.0), Figure(10.0), Figure(10.0)]
    row = pair("tokens", "µs", ours, theirs, Limit(2.5, times_floor=True))
    assert (row.gateway, row.ratio, row.met, row.doubts, row.rounds) == (31.0, 3.1, False, (), "2 of 3")


def test_a_figure_without_a_sound_round_never_counts_as_met() -> None:
    joined = ("2.0 tokens came at once",)
    row = pair("tokens", "µs", [Figure(10.0, joined)], [Figure(10.0)], Limit(2.5, times_floor=True))
    text = table([row])
    assert "| ?   |" in text
    assert "yes" not in text
    assert "2.0 tokens came at once" in text


def test_tokens_are_counted_whatever_they_come_in() -> None:
    tally = Tally(3)
    assert tally.add(b'{"text":"~T1000 word~T2000 word"}') == 2
    assert tally.add(b"nothing") == 0
    assert tally.add(b'data: {"content":"~T3000 word"}\n\n') == 1
    assert (len(tally.ages), tally.arrivals) == (3, 2)


def test_the_table_replaces_what_is_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n")
    write_between(page, "new")
    assert page.read_text() == "# Before\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="has no line"):
        write_between(page, "new")
