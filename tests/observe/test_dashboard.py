"""The dashboard and the example of a Prometheus configuration fit what is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.observe.families import FAMILIES, Family

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/tidegate.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
WORDS = {"job", "instance", "le"}


def families_of(expression: str) -> list[Family]:
    """Return what an expression names; a histogram by any of its series."""
    known = {family.name: family for family in FAMILIES}
    found = []
    for name in re.findall(r"\b(?:tidegate|process)_\w+", expression):
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        family = known.get(name) or known.get(base)
        assert family is not None, f"{name} is not measured"
        assert (family.kind == "histogram") == (name != family.name), f"{name}: {family.kind}"
        found.append(family)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_names_what_is_measured_and_its_labels(expression: str) -> None:
    families = families_of(expression)
    assert families
    labels = {label for family in families for label in family.labels} | WORDS
    grouped = {name.strip() for names in re.findall(r"by \(([^)]*)\)", expression) for name in names.split(",")}
    matched = set(re.findall(r"[{,](\w+)!?=~?", expression))
    assert grouped | matched <= labels
    for family in families:
        counts = re.search(r"(rate|increase)\(" + family.name, expression) is not None
        assert counts == (family.kind != "gauge"), f"{family.name} is a {family.kind}"


def test_legends_name_labels_that_the_expression_keeps() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {n.strip() for names in re.findall(r"by \(([^)]*)\)", target["expr"]) for n in names.split(",")}
            assert used <= kept, panel["title"]


def test_everything_that_is_measured_is_on_the_dashboard() -> None:
    shown = {family.name for expression in EXPRESSIONS for family in families_of(expression)}
    left_out = {family.name for family in FAMILIES} - shown
    assert left_out == {
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "tidegate_cache_stored_bytes_total",
        "tidegate_info",  # the variables are made of it
    }


def test_panels_have_titles_and_words_and_do_not_overlap() -> None:
    places = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["description"] for panel in PANELS)


def test_the_example_of_a_prometheus_configuration_scrapes_the_replicas() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (found,) = jobs["tidegate"]["dns_sd_configs"]
    compose = yaml.safe_load((DEPLOY.parent / "compose.yaml").read_text())
    assert set(found["names"]) <= set(compose["services"])
