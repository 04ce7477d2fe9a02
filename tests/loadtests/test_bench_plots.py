"""Plots of the benchmark: what stands in one, in which order, and that it is right XML."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtests.bench.plots import Bar, Plot, draw, plots, write_plots
from loadtests.bench.report import Figure, Row

PEERS = {"nginx": Figure(3.0), "A & B": Figure(9.0, ("late",)), "gone": None, "broken": Figure(math.nan, ("gone",))}
FAN = "fan-out: 10 sockets × published"


def test_both_protocols_share_a_plot_with_the_others_that_have_a_figure() -> None:
    rows = [
        Row(f"{FAN}, native protocol, CPU", "µs", 5.0, 2.0, peers=PEERS),
        Row(f"{FAN}, Centrifuge JSON, CPU", "µs", 4.0, 2.0, peers=PEERS),
        Row("memory: alone", "KB", 4.0),
    ]
    (plot,) = plots(rows)
    assert plot.title == f"{FAN}, CPU"
    assert [(bar.name, bar.value, bar.kind, bar.doubtful) for bar in plot.bars] == [
        ("the floor", 2.0, "floor", False),
        ("nginx", 3.0, "peer", False),
        ("Tidegate, Centrifuge", 4.0, "ours", False),
        ("Tidegate, native", 5.0, "ours", False),
        ("A & B", 9.0, "peer", True),
    ]


def test_of_rates_the_best_is_first() -> None:
    (plot,) = plots([Row("REST: requests", "1/s", 5.0, 2.0, peers=PEERS)])
    assert [bar.value for bar in plot.bars] == [9.0, 5.0, 3.0, 2.0]
    assert "more is better" in draw(plot)


def test_a_figure_that_nobody_else_has_is_no_plot() -> None:
    assert plots([Row("cut: lost", "", 1.0, peers={"Node ws": None})]) == []
    assert plots([Row("cut: lost", "", 0.0, peers={"Node ws": Figure(0.0)})]) == []
    assert plots([Row("cut: p95", "s", math.nan, peers=PEERS)]) == []


def test_what_a_figure_is_added_to_is_no_bar() -> None:
    (plot,) = plots([Row("REST: time added, p50 (floor: without)", "ms", 0.5, 0.1, peers={"nginx": Figure(0.2)})])
    assert (plot.title, [bar.name for bar in plot.bars]) == ("REST: time added, p50", ["nginx", "Tidegate"])


def test_a_plot_is_right_xml_whose_longest_bars_are_broken() -> None:
    text = draw(Plot("a < b", "µs", [Bar("A & B", 1.0, "ours"), Bar("slow", 100.0, doubtful=True)]))
    root = ElementTree.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    _, ours, slow = (float(each.attrib["width"]) for each in root.iter(f"{svg}rect"))
    assert slow == pytest.approx(8 * ours, rel=0.01)
    assert len(list(root.iter(f"{svg}path"))) == 1
    assert [each.text for each in root.iter(f"{svg}text")][1:] == [
        "µs, less is better, (!) not to be relied on", "A & B", "1.00", "slow", "100.0 (!)",
    ]  # fmt: skip


def test_figures_of_nothing_are_drawn() -> None:
    ElementTree.fromstring(draw(Plot("lost", "", [Bar("Tidegate", 0.0, "ours"), Bar("FastAPI", 5000.0)])))
    ElementTree.fromstring(draw(Plot("lost", "", [Bar("Tidegate", 0.0, "ours"), Bar("Socket.IO", 0.0)])))


def test_plots_of_earlier_figures_are_removed(tmp_path: Path) -> None:
    (tmp_path / "old.svg").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    write_plots(tmp_path, [Row("REST: requests", "1/s", 5.0, 2.0, peers=PEERS)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.txt", "rest-requests.svg"]
