"""What is measured adds up, and stays bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from app.observe.exposition import expose
from app.observe.families import FAMILIES, LATENCY, Counts, Histogram, Snapshot, merged
from app.observe.workers import decode, encode


def test_counters_never_have_more_than_their_bound_of_combinations() -> None:
    counts = Counts()
    for number in range(5000):
        counts.add((f"/path/{number}", "GET"))
    assert len(counts) <= 2001
    assert counts["other", "other"] == 3000
    assert sum(counts.values()) == 5000


def test_histograms_are_bounded_too() -> None:
    histogram = Histogram(LATENCY)
    for number in range(3000):
        histogram.observe((str(number),), 0.1)
    assert len(histogram.values) <= 2001
    assert histogram.values["other",][LATENCY.index(0.1)] == 1000  # type: ignore[index]


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_value_once_in_the_smallest_bucket_that_holds_it(values: list[float]) -> None:
    histogram = Histogram(LATENCY)
    for value in values:
        histogram.observe((), value)
    text = expose({"tidegate_event_loop_lag_seconds": {**histogram.values}}, "")[0].decode()
    samples = {s.labels.get("le", s.name): s.value for m in text_string_to_metric_families(text) for s in m.samples}
    for bound in LATENCY if values else ():
        assert samples[f"{bound:g}"] == sum(value <= bound for value in values)
    if values:
        assert samples["+Inf"] == samples["tidegate_event_loop_lag_seconds_count"] == len(values)
        assert samples["tidegate_event_loop_lag_seconds_sum"] == pytest.approx(sum(values))


def test_processes_merge_by_sum_but_for_gauges_that_do_not_add_up() -> None:
    one: Snapshot = {
        "tidegate_sockets_opened_total": {("native",): 2},
        "tidegate_broker_up": {(): 1},
        "tidegate_broker_lag_seconds": {("broker",): 0.5},
        "tidegate_socket_seconds": {("native",): [1.0, 2.0, 3.0]},
    }
    other: Snapshot = {
        "tidegate_sockets_opened_total": {("native",): 3, ("sse",): 1},
        "tidegate_broker_up": {(): 0},
        "tidegate_broker_lag_seconds": {("broker",): 0.1},
        "tidegate_socket_seconds": {("native",): [1.0, 1.0, 1.0]},
    }
    assert merged([one, other]) == merged([other, one])
    assert merged([one, other]) == {
        "tidegate_sockets_opened_total": {("native",): 5, ("sse",): 1},
        "tidegate_broker_up": {(): 0},
        "tidegate_broker_lag_seconds": {("broker",): 0.5},
        "tidegate_socket_seconds": {("native",): [2.0, 3.0, 4.0]},
    }


def test_a_snapshot_survives_its_way_between_processes() -> None:
    snapshot: Snapshot = {
        "tidegate_sockets_closed_total": {("native", "1000", "client"): 2.0},
        "tidegate_broker_up": {(): 1},
        "tidegate_socket_seconds": {("native",): [1.0, 2.5]},
    }
    assert decode(encode(snapshot)) == snapshot
    for damaged in (b"", b"[]", b'{"a":1}', encode(snapshot)[:-3]):
        with pytest.raises(ValueError):
            decode(damaged)


def test_names_are_well_formed_and_each_there_once() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert family.name.startswith(("tidegate_", "process_"))
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert bool(family.bounds) == (family.kind == "histogram"), family.name
        assert family.help.endswith("."), family.name


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text; version=1.0.0"])
def test_all_families_can_be_read_by_prometheus(accept: str) -> None:
    snapshot: Snapshot = {
        family.name: {
            tuple("x" for _ in family.labels): [1.0] * (len(family.bounds) + 2) if family.kind == "histogram" else 1
        }
        for family in FAMILIES
    }
    body, content_type = expose(snapshot, accept)
    assert content_type.startswith("application/openmetrics-text" if "openmetrics" in accept else "text/plain")
    told = {
        f"{m.name}_total" if m.type == "counter" else m.name: m for m in text_string_to_metric_families(body.decode())
    }
    assert {family.name for family in FAMILIES} <= set(told)
