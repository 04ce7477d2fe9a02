"""The command ``tidegate-load``, and the page that it writes."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from loadtests.cli import app
from loadtests.replay.crew import Outcome, Restart
from loadtests.replay.live import View
from loadtests.replay.options import Options
from loadtests.replay.report import write_report
from loadtests.replay.tally import Tally
from loadtests.replay.verdict import make_verdict
from loadtests.replay.worker import Result
from tests.loadtests.support import native_chat
from tests.support.browser import chromium, recorded_page

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "400", "NO_COLOR": "1"})
    return result.exit_code, result.output


def outcome(lag: int = 1000, **counts: int) -> Outcome:
    tally = Tally(connected=3, messages=100, delivered=90, **counts)
    for second in range(30):
        tally.series["messages"][second] = second * 10
        tally.series["open"][second] = 3
        by_second = tally.added_by_second.setdefault(second, type(tally.times["added"])())
        by_second.add(1000 * second)
        tally.times["added"].add(1000 * second)
    tally.times["lag"].add(lag)
    tally.note("close_codes", "4401 <script>alert(1)</script>")
    return Outcome([Result(tally, 1.0, 10.0, 10**7, 10.0, 0)], wall=10.0)


def verdict(lag: int = 1000, **counts: int) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(make_verdict(Options("s", ["ws://h"]), outcome(lag, **counts))))
    return made


def test_every_option_of_the_page_is_one_of_the_command() -> None:
    page = (ROOT / "docs/load-testing.md").read_text()
    commands = [each.name or each.callback.__name__ for each in app.registered_commands if each.callback is not None]
    assert len(commands) > 6
    text = "".join(run(each, "--help")[1] for each in commands)
    named = set(re.findall(r"(--[a-z][a-z-]+)", page)) - {"--set"}  # mitmproxy's
    assert len(named) > 20
    assert [each for each in sorted(named) if each not in text] == []


def test_every_key_of_the_page_is_one_of_a_verdict() -> None:
    page = (ROOT / "docs/load-testing.md").read_text()
    table = page[page.index("| key | |") : page.index("A channel that keeps no log")]
    keys = {key for row in table.splitlines() if row for key in re.findall(r"`([a-z]\w+)`", row.split("|")[1])}
    have = set(verdict()) | set(verdict()["histograms"])
    assert len(keys) > 20
    assert keys <= have, keys - have


def test_a_verdict_is_judged_shown_and_compared(tmp_path: Path) -> None:
    good, bad, void = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "void.json"
    good.write_text(json.dumps(verdict()))
    bad.write_text(json.dumps(verdict(lost=2)))
    void.write_text(json.dumps(verdict(lag=90_000)))
    assert run("verdict", good, "--fail-if", "lost>0")[0] == 0
    status, text = run("verdict", bad, "--fail-if", "lost>0", "--fail-if", "doubled>0")
    assert status == 1
    assert "FAILED: lost>0" in text
    assert "90 of 92" in text
    status, text = run("verdict", void)
    assert status == 3
    assert "90 ms late" in text
    assert run("verdict", void, "--allow-void")[0] == 0
    assert run("compare", good, good)[0] == 0
    status, text = run("compare", good, bad)
    assert status == 1
    assert re.search(r"lost .* worse", text)
    assert run("compare", good, void)[0] == 3


def test_what_is_wrong_with_a_command_is_said_in_one_line(tmp_path: Path) -> None:
    session = native_chat(tmp_path / "s.jsonl")
    (tmp_path / "bad.jsonl").write_text("{}")
    good = tmp_path / "good.json"
    good.write_text(json.dumps(verdict()))
    for arguments, says in [
        (("replay", tmp_path / "none.jsonl"), "none.jsonl: No such file"),
        (("import", tmp_path / "none.har", "--out", tmp_path / "x.jsonl"), "none.har: No such file"),
        (("replay", session, "--json", tmp_path / "none" / "run.json"), "run.json cannot be written"),
        (("replay", session, "--html", tmp_path), "cannot be written"),
        (("replay", session, "--url", "ws://127.0.0.1:1/a", "--url", "ws://127.0.0.1:2"), "nobody listens at ws://127"),
        (("replay", tmp_path / "bad.jsonl"), "this is no session"),
        (("replay", session, "--url", "http://h"), "is no ws:// or wss:// URL"),
        (("replay", session, "--ramp", "soon"), "is no duration"),
        (("replay", session, "--fail-if", "lost"), "is no condition"),
        (("replay", session, "--slow", "5"), "5%@1KB/s"),
        (("replay", session, "--claims", "{"), "Expecting"),
        (("replay", session, "--pace", "fast"), "none of recorded, gated, asap"),
        (("replay", session, "--restart-command", "true"), "belong together"),
        (("verdict", session), "is no verdict"),
        (("report", tmp_path / "bad.jsonl", tmp_path / "x.html"), "is no verdict"),
        (("report", good, tmp_path / "none" / "x.html"), "No such file"),
    ]:
        status, text = run(*arguments)
        assert status == 2, (arguments, text)
        assert says in re.sub(r"\s+", " ", text), (arguments, text)
        assert "Traceback" not in text


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (Outcome(failures=["OSError: no"]), "a process failed: OSError: no"),
        (Outcome(), "nothing was connected"),
        (outcome(doubled=50), "over 100 %"),
        (outcome(lag=30_000), "30 ms late"),
    ],
)
def test_a_run_that_measured_itself_is_void(made: Outcome, says: str) -> None:
    assert any(says in each for each in make_verdict(Options("s", ["ws://h"]), made)["doubts"])


def test_clocks_that_differ_and_ports_that_run_short_make_a_run_void() -> None:
    made = outcome()
    made.results[0].tally.times["added"].add(-5_000)
    made.results[0].tally.note("refusals", "EADDRNOTAVAIL")
    made.results[0].cpu = 9.9
    made.restarts.append(Restart("false", 1.0, 1))
    verdict = make_verdict(Options("s", ["ws://h"], jwt_secret="hidden"), made)
    assert [each for each in verdict["doubts"] if "5.0 ms before" in each]
    assert "ports ran short (EADDRNOTAVAIL)" in verdict["doubts"]
    assert [each for each in verdict["doubts"] if "99% of its core" in each]
    assert verdict["warnings"] == ["false: exit status 1"]
    assert "hidden" not in json.dumps(verdict), "a verdict is shown to others"


@pytest.mark.parametrize(("width", "lines"), [(100, 5), (80, 5), (45, 9)])
def test_the_live_view_fits_its_terminal_and_hides_no_fault(width: int, lines: int) -> None:
    faults = dict.fromkeys(("lost", "doubled", "reordered", "leaked", "unfinished"), 7)
    for figures, says in ((faults, "7 lost, 7 doubled, 7 reordered, 7 leaked, 7 unfinished"), ({}, "nothing lost")):
        console = Console(file=io.StringIO(), width=width, height=40, force_terminal=True, color_system=None)
        with View(console, quiet=False) as view:
            view.told({"elapsed": 61.0, "messages": 123_456, "delivered": 1_234_567, "added_p99": 12_300, **figures})
            view.refresh()
            assert isinstance(console.file, io.StringIO)
            shown = [
                line for line in re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", console.file.getvalue()).splitlines() if line
            ]
        shown = shown[-lines - (width < 60 and bool(figures)) :]
        text = " ".join(" ".join(shown).split())
        assert says in text, text
        assert "1,234,567 delivered" in text
        assert "added 12.3 ms" in text
        assert max(map(len, shown)) <= width


def test_the_report_is_one_page_that_fits_a_phone_and_runs_nothing(tmp_path: Path) -> None:
    told = verdict(lost=1)
    told["servers"] = {"pid 1": {"cpu_share": 0.5, "memory_first": 1e8, "memory_last": 1e8, "memory_most": 1e8,
                                 "cpu_by_second": {"0": 0.5}, "memory_by_second": {"0": 1e8, "10": 2e8}}}  # fmt: skip
    page = tmp_path / "report.html"
    page.write_text(write_report(told, "<b>session</b>"))
    text = page.read_text()
    assert "<script" not in text
    assert not re.search(r"(src|href)=", text)
    with chromium() as browser:
        for width, scheme in ((375, "light"), (1200, "dark")):
            context = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
            with recorded_page(browser, **context) as (tab, troubles):
                tab.goto(page.as_uri())
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                assert tab.locator("svg polyline").count() >= 6
                assert tab.locator(".tile.bad b").inner_text() == "1"
                assert "4401 <script>alert(1)</script>" in tab.locator("table").last.inner_text()
                assert troubles == []
