"""The benchmark, so small that it measures nothing: it must run, and it must not believe what it should not."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import pytest

from loadtests.bench.client import Tally
from loadtests.bench.followers import Follower
from loadtests.bench.lab import Target
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


def test_the_help_says_how_to_have_other_servers_and_how_to_measure_in_pieces() -> None:
    command = [sys.executable, "-m", "loadtests.bench", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    for told in ("make bench-peers", "--write cut", "--draw", "TIDEGATE_PEERS", "previews"):
        assert told in done.stdout


def test_coarse_figures_are_not_written() -> None:
    command = [sys.executable, "-m", "loadtests.bench", "--quick", "--write"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "too coarse to be written" in done.stderr


def test_a_scenario_that_is_broken_off_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    """The floor of one does not start; of two other servers one is broken, and the other not there."""
    (tmp_path / "floor").mkdir()
    (tmp_path / "floor" / "tokens.py").write_text("raise SystemExit(1)")
    (broken := tmp_path / "node" / "node_modules" / "ws").mkdir(parents=True)
    (broken / "package.json").write_text('{"version":"0.0.0"}')
    page = tmp_path / "page.md"
    page.write_text("<!-- bench: begin -->\n<!-- bench: end -->\n")
    environment = {**os.environ, "TIDEGATE_FLOOR": str(tmp_path), "TIDEGATE_PEERS": str(tmp_path)}
    command = [sys.executable, "-m", "loadtests.bench", "latency", "cut", "--scale", "0.002", "--rounds", "1"]
    done = subprocess.run([*command, "--write", "--page", page], cwd=ROOT, env=environment, capture_output=True,
                          text=True, timeout=110, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "bench: latency was broken off" in done.stderr
    assert "2 of 2: cut" in done.stderr
    assert "- latency was not measured: broken off by StartFailed." in done.stdout
    assert "latency" not in page.read_text()
    head = next(line for line in page.read_text().splitlines() if line.startswith("| beside other servers"))
    cells = dict(zip(*[[cell.strip() for cell in line.split("|")] for line in (head, lost_row(page))], strict=True))
    assert (cells["Node ws"], cells["Socket.IO"]) == ("–", "–")
    assert cells["FastAPI"].endswith("(!)")
    assert "| Socket.IO | not installed, so not measured |" in page.read_text()


def lost_row(page: Path) -> str:
    """Return the row of the second table that says what was lost."""
    return [line for line in page.read_text().splitlines() if "lost or doubled" in line][1]


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


def follower(*lines: bytes) -> Follower:
    """Return a follower at offset 3 of epoch e that has heard ``lines``, as a transport cuts them."""
    target = Target(0, 0, "/", b"", lambda user: "token")
    each = Follower(target, "alice")
    each.joined = cast(Any, Future())
    heard = b"HTTP/1.1 101\r\n\r\n" + b"".join(text_frame_of_a_server(line) for line in lines)
    for start in range(0, len(heard), 7):
        each.data_received(heard[start : start + 7])
    return each


def test_a_follower_sees_what_is_lost_and_what_is_doubled() -> None:
    again = b'{"id":1000,"subscribe":{"epoch":"e","recovered":true,"offset":3,"publications":[{"offset":5}]}}'
    joined = b'{"id":1000,"subscribe":{"epoch":"e","offset":3,"recoverable":true}}'
    push = b'{"push":{"channel":"everybody","pub":{"data":{},"offset":%d}}}'
    assert [(each.lost, each.doubled, each.offset) for each in (
        follower(joined, push % 4 + b"\n" + push % 5),
        follower(joined, push % 4, push % 7),
        follower(joined, push % 4, push % 4),
        follower(joined, again),
        follower(joined, b'{"id":1000,"subscribe":{"epoch":"f","offset":1}}'),
    )] == [(0, 0, 5), (2, 0, 7), (0, 1, 4), (1, 0, 5), (1, 0, 1)]  # fmt: skip


def text_frame_of_a_server(text: bytes) -> bytes:
    return (bytes((0x81, len(text))) if len(text) < 126 else b"\x81\x7e" + len(text).to_bytes(2, "big")) + text


def test_each_new_scenario_runs_small_and_finds_nothing_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "TIDEGATE_FLOOR": str(tmp_path), "TMPDIR": str(tmp_path), "TIDEGATE_PEERS": "none"}
    command = [
        sys.executable,
        "-m",
        "loadtests.bench",
        "publish",
        "connect",
        "models",
        "kafka",
        "--scale",
        "0.004",
        "--rounds",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert "fan-out: 4 sockets × published, 16 in flight, native protocol, CPU per delivery, µs" in done.stdout
    assert "did not arrive" not in done.stdout
    assert "completions: whole ones, 16 connections, requests, 1/s" in done.stdout
    assert "answers were errors" not in done.stdout
    assert "Kafka: time added to a request and its answer, p50" in done.stdout


def test_a_short_soak_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.soak", "--minutes", "0.05", "--sockets", "20", "--every", "0.5"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert "0 lost, 0 doubled, 0 not back; grown by" in done.stdout, done.stderr
    assert done.returncode == 0
