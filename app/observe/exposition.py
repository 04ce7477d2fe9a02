"""What is measured, as Prometheus reads it: its text format, or OpenMetrics where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.observe.families import FAMILIES, Family, Sample, Snapshot

__all__ = ["expose"]


def expose(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """Return the body and its content type for a scraper that sent the header ``Accept``."""
    encoder, content_type = choose_encoder(accept)
    return encoder(_Collected(snapshot)), content_type


class _Collected(Collector):
    """In place of a registry, for the encoders."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            values = self._snapshot.get(family.name)
            if values:
                yield _metric(family, values)


def _metric(family: Family, values: dict[tuple[str, ...], Sample]) -> Metric:
    labels = list(family.labels)
    metric: Metric
    if family.kind == "histogram":
        metric = histogram = HistogramMetricFamily(family.name, family.help, labels=labels)
        for names, cell in values.items():
            assert isinstance(cell, list), "so histograms are kept"
            ends = [*(f"{bound:g}" for bound in family.bounds), "+Inf"]
            histogram.add_metric(names, list(zip(ends, accumulate(cell[:-1]), strict=True)), sum_value=cell[-1])
        return metric
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = simple = kind(family.name, family.help, labels=labels)
    for names, value in values.items():
        assert not isinstance(value, list), "only histograms are lists"
        simple.add_metric(names, value)
    return metric
