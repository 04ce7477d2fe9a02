"""What the benchmark keeps, and the page that it makes of it."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.bench.report import Figure, Limit, Row, table, typical
from loadtests.bench.results import Circumstances, Measured, keep, kept, report

DOCS = Path(__file__).resolve().parents[2] / "docs"
HERE = Circumstances("2026-01-02", "a machine", "uvicorn 1", "floor.py", 3, 1.0)
PROXIES = {"nginx": Figure(4000.0, ("the load took 99% of its core",)), "FastAPI + httpx": None}
REST = Row("REST: small, requests", "1/s", 900.0, 1000.0, 0.9, Limit(0.5, times_floor=True, least=True), peers=PROXIES)


def measured(scenario: str, *rows: Row, at: Circumstances = HERE) -> Measured:
    return Measured(scenario, list(rows), at, 10.0, 0.5, {"nginx": "1.22", "LiteLLM": None})


def test_what_is_kept_is_what_was_measured_even_numbers_that_json_has_not(tmp_path: Path) -> None:
    file = tmp_path / "page.json"
    broken = replace(REST, gateway=math.nan, doubts=("broken off",), peers={"nginx": Figure(math.nan, ("gone",))})
    keep(file, measured("rest", REST))
    keep(file, measured("cut", broken))
    there = kept(file)
    assert there["rest"] == measured("rest", REST)
    (row,) = there["cut"].rows
    assert math.isnan(row.gateway)
    assert row.peers["nginx"] is not None
    assert math.isnan(row.peers["nginx"].value)


def test_a_scenario_that_is_measured_again_replaces_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "page.json"
    keep(file, measured("rest", REST))
    keep(file, measured("cut", replace(REST, what="cut: all")))
    keep(file, measured("rest", replace(REST, gateway=950.0)))
    assert [row.gateway for each in kept(file).values() for row in each.rows] == [950.0, 900.0]


def test_the_report_names_circumstances_once_and_each_where_they_differ() -> None:
    cut = measured("cut", REST)
    assert report([measured("rest", REST), cut]).count("2026-01-02") == 1
    later = report([measured("rest", REST), replace(cut, circumstances=replace(HERE, day="2026-01-03"))])
    assert "2026-01-02: a machine. uvicorn 1. Floor: floor.py. 3 alternating rounds" in later
    assert "load average 0.5 to 0.5 (rest)." in later
    assert "2026-01-03" in later


def test_the_report_names_servers_that_are_not_installed_and_scenarios_that_were_not_measured() -> None:
    text = report([measured("rest", REST), replace(measured("limited"), note="no Valkey or Redis server was found")])
    assert "| LiteLLM | not installed, so not measured | PyPI: `litellm` |" in text
    assert "| nginx | 1.22 | Debian: `nginx-light` |" in text
    assert "- limited was not measured: no Valkey or Redis server was found." in text


def test_other_servers_have_columns_with_a_dash_where_they_are_missing_and_a_mark_where_they_are_doubtful() -> None:
    other = Row("SSE: tokens", "µs", 40.0, peers={"nginx": Figure(30.0)})
    lines = [" ".join(line.split()) for line in table([REST, other]).splitlines()]
    assert "| beside other servers | gateway | floor | nginx | FastAPI + httpx |" in lines
    assert "| REST: small, requests, 1/s | 900.0 | 1,000 | 4,000 (!) | – |" in lines
    assert "| SSE: tokens, µs | 40.0 | | 30.0 | |" in lines
    assert "- REST, nginx: the load took 99% of its core" in lines


def test_the_median_is_that_of_sound_rounds() -> None:
    assert typical([]) is None
    assert typical([Figure(1.0, ("late",)), Figure(4.0), Figure(6.0)]) == Figure(5.0)
    assert typical([Figure(1.0, ("late",)), Figure(3.0, ("late", "lost"))]) == Figure(2.0, ("late", "lost"))


def test_the_page_of_the_docs_is_drawn_from_what_is_kept_beside_it(tmp_path: Path) -> None:
    if not (DOCS / "benchmarks.json").exists():
        pytest.skip("nothing has been measured")
    page = tmp_path / "benchmarks.md"
    for file in ("benchmarks.md", "benchmarks.json"):
        shutil.copy(DOCS / file, tmp_path)
    command = [sys.executable, "-m", "loadtests.bench", "--draw", "--page", str(page)]
    subprocess.run(command, cwd=DOCS.parent, check=True, timeout=60)
    drawn = {file.name: file.read_text() for file in (tmp_path / "plots").iterdir()}
    assert drawn == {file.name: file.read_text() for file in (DOCS / "plots").iterdir()}
    assert page.read_text() == (DOCS / "benchmarks.md").read_text()
