"""The names of all that is measured: what ``/metrics`` can say, and nothing else. Pure.

A *snapshot* is what one process has measured: by family, the values by their labels' values. Snapshots of several
processes merge into one, so that it does not matter which of them is asked. Labels are of bounded numbers: routes and
upstreams by the names that the configuration gives them, codes by our own; never a path, a user or a channel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["FAMILIES", "LATENCY", "LONG", "Counts", "Family", "Histogram", "Sample", "Snapshot", "merged"]

Labels = tuple[str, ...]
Sample = float | list[float]
"""A counter's or gauge's value; of a histogram the counts of its buckets, not added up, and behind them the sum."""
Snapshot = dict[str, dict[Labels, Sample]]

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds, of what should be quick."""
LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Seconds, of what upstreams compute."""
_MOST = 2000
"""Combinations of labels of one family; what comes beyond is counted as ``other``."""


@dataclass(frozen=True, slots=True)
class Family:
    """One name. ``merge`` is how gauges of several processes become one; all else adds up."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    merge: Literal["sum", "max", "min"] = "sum"
    bounds: tuple[float, ...] = ()
    """Upper ends of a histogram's buckets, but for the last, which has none."""


class Counts(dict[Labels, float]):
    """A counter by labels. Add to it with :meth:`add`, which keeps it bounded."""

    def add(self, labels: Labels, amount: float = 1) -> None:
        if labels not in self and len(self) >= _MOST:
            labels = ("other",) * len(labels)
        self[labels] = self.get(labels, 0) + amount


class Histogram:
    """A histogram by labels."""

    __slots__ = ("bounds", "values")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.values: dict[Labels, Sample] = {}

    def observe(self, labels: Labels, value: float) -> None:
        cell = self.values.get(labels)
        if cell is None:
            if len(self.values) >= _MOST:
                labels = ("other",) * len(labels)
            cell = self.values.setdefault(labels, [0.0] * (len(self.bounds) + 2))
        assert isinstance(cell, list), "a histogram holds nothing else"
        cell[bisect_left(self.bounds, value)] += 1
        cell[-1] += value


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return what several processes have measured, as if they were one."""
    total: Snapshot = {}
    for snapshot in snapshots:
        for name, values in snapshot.items():
            into = total.setdefault(name, {})
            join = _JOINS[_BY_NAME[name].merge] if name in _BY_NAME else _added
            for labels, value in values.items():
                before = into.get(labels)
                into[labels] = value if before is None else join(before, value)
    return total


def _added(one: Sample, other: Sample) -> Sample:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert not isinstance(one, list), "a family is of one kind"
    assert not isinstance(other, list), "a family is of one kind"
    return one + other


def _largest(one: Sample, other: Sample) -> Sample:
    assert not isinstance(one, list), "histograms add up"
    assert not isinstance(other, list), "histograms add up"
    return max(one, other)


def _smallest(one: Sample, other: Sample) -> Sample:
    assert not isinstance(one, list), "histograms add up"
    assert not isinstance(other, list), "histograms add up"
    return min(one, other)


_JOINS: Mapping[str, Callable[[Sample, Sample], Sample]] = {"sum": _added, "max": _largest, "min": _smallest}

FAMILIES: tuple[Family, ...] = (
    # Requests.
    Family("tidegate_http_requests_total", "counter",
           "Requests that have ended. `route` is the label of the configuration's route, the pattern of a path of the "
           "gateway's own, or `none`; `status` is the class, such as `2xx`, and `none` where no answer had begun.",
           ("route", "method", "status")),
    Family("tidegate_http_request_seconds", "histogram",
           "From a request's head to the end of its answer.", ("route",), bounds=LATENCY),
    Family("tidegate_http_requests_in_flight", "gauge", "Requests at work, event streams included."),
    Family("tidegate_http_received_bytes_total", "counter", "Bytes of requests' bodies.", ("route",)),
    Family("tidegate_http_sent_bytes_total", "counter", "Bytes of answers' bodies, before compression.", ("route",)),
    Family("tidegate_http_failures_total", "counter",
           "Requests that did not get their whole answer, or got the gateway's own: by who ended it "
           "(`refused`, `upstream`, `client`, `gateway`) and the error's code.", ("route", "ended", "code")),
    Family("tidegate_http_refused_total", "counter",
           "Requests that were refused while they were read, by the error's code; their connection was closed.",
           ("code",)),
    Family("tidegate_limits_total", "counter",
           "What limits said to requests and generations, by the limit's name: `admitted`, `refused`, or `uncounted` "
           "where Redis was away.", ("limit", "outcome")),
    Family("tidegate_cache_answers_total", "counter",
           "Answers of routes with a cache: `hit`, `stale`, `revalidated`, `collapsed`, `miss`, `bypass`.",
           ("route", "outcome")),
    Family("tidegate_cache_stored_bytes_total", "counter", "Bytes of answers that were stored.", ("route",)),
    # Upstreams.
    Family("tidegate_upstream_answers_total", "counter",
           "Tries that an upstream's target answered.", ("upstream", "target", "status")),
    Family("tidegate_upstream_failures_total", "counter",
           "Tries without an answer: `connect`, `cut`, `try_timeout`, `timeout`, `invalid`.",
           ("upstream", "target", "failure")),
    Family("tidegate_upstream_head_seconds", "histogram",
           "From sending a request to its answer's head, or to the failure.", ("upstream",), bounds=LATENCY),
    Family("tidegate_upstream_retries_total", "counter", "Requests sent again.", ("upstream", "failure")),
    Family("tidegate_upstream_hedges_total", "counter", "Hedges sent; `won` is `yes` or `no`.", ("upstream", "won")),
    Family("tidegate_upstream_breaker_moves_total", "counter",
           "Changes of breakers to `state`.", ("upstream", "target", "state")),
    Family("tidegate_upstream_health_moves_total", "counter",
           "Changes of targets to `available`, `ejected` or `unhealthy`.", ("upstream", "target", "state")),
    Family("tidegate_upstream_targets", "gauge",
           "Targets by what they are now: `available`, `ejected`, `unhealthy`; as the worst-off process has it.",
           ("upstream", "state"), "max"),
    Family("tidegate_upstream_connections", "gauge", "Connections, `busy` or `idle`.", ("upstream", "state")),
    Family("tidegate_upstream_breakers_open", "gauge", "Breakers that are not closed.", ("upstream",)),
    Family("tidegate_kafka_up", "gauge", "Whether the brokers of an upstream over Kafka are reached, by all processes.",
           ("upstream",), "min"),
    Family("tidegate_kafka_outstanding", "gauge", "Requests that wait for their answers, or the end of them.",
           ("upstream",)),
    Family("tidegate_kafka_buffered_bytes", "gauge", "Bytes of answers that wait for their readers.", ("upstream",)),
    Family("tidegate_kafka_messages_total", "counter",
           "Messages of reply topics that nobody waited for: `late`, `foreign` (another replica's), `repeated`, "
           "`poison`, and of those `parked`.", ("upstream", "kind")),
    # Sockets.
    Family("tidegate_sockets_open", "gauge",
           "Sockets, and what stands in for them: `native`, `centrifuge`, `sse`, `http_stream`, `passed_on`.",
           ("protocol",)),
    Family("tidegate_sockets_opened_total", "counter", "Sockets that were let in.", ("protocol",)),
    Family("tidegate_sockets_closed_total", "counter",
           "Sockets that have ended: by close code, and who said it (`gateway` or `client`). Codes of clients that no "
           "standard knows are `other`; 1006 is a connection that just ended.", ("protocol", "code", "by")),
    Family("tidegate_sockets_refused_total", "counter",
           "Handshakes that were refused, by the error's code.", ("code",)),
    Family("tidegate_socket_seconds", "histogram", "How long sockets were open.", ("protocol",), bounds=LONG),
    Family("tidegate_socket_received_frames_total", "counter", "Messages that clients sent."),
    Family("tidegate_socket_received_bytes_total", "counter", "Their bytes, without framing."),
    Family("tidegate_socket_sent_frames_total", "counter",
           "Frames to clients besides live messages of channels: replies, pushes, pings, catch-ups."),
    Family("tidegate_socket_sent_bytes_total", "counter", "Their bytes."),
    # Channels.
    Family("tidegate_channels", "gauge", "Channels that somebody listens to."),
    Family("tidegate_messages_total", "counter", "Messages of channels that came to listeners here, each once."),
    Family("tidegate_delivered_total", "counter",
           "Messages times listeners. What a slow reader gets merged counts as what it was made of."),
    Family("tidegate_delivered_bytes_total", "counter", "Bytes times listeners, framing included."),
    Family("tidegate_resumes_total", "counter",
           "Readers who named a position: `full` when they went on from it, `partial` when they had to begin again.",
           ("outcome",)),
    Family("tidegate_gaps_total", "counter", "Channels whose listeners were told of a gap that can't be repaired."),
    Family("tidegate_slow_consumers_total", "counter", "Sockets closed because they read too slowly."),
    # Generations.
    Family("tidegate_generations_running", "gauge", "Generations that run here."),
    Family("tidegate_generations_started_total", "counter", "Generations that began here.", ("kind",)),
    Family("tidegate_generations_finished_total", "counter",
           "Generations that ended, told by the replica that ended them: `completed`, `failed` with the error's "
           "`code`, `cancelled`.", ("kind", "terminal", "code")),
    Family("tidegate_generation_failovers_total", "counter",
           "Upstreams that failed in a generation, and which one went on: from its beginning (`restart`), or from the "
           "text so far (`continue`).", ("from", "to", "mode")),
    Family("tidegate_generation_first_seconds", "histogram",
           "From a generation's start to the upstream's first event.", ("kind",), bounds=LONG),
    Family("tidegate_generation_seconds", "histogram", "From start to end.", ("kind",), bounds=LONG),
    Family("tidegate_generation_tokens_total", "counter",
           "Tokens, as upstreams told or as estimated: `prompt` or `completion`.", ("kind", "part", "source")),
    # The broker.
    Family("tidegate_broker_up", "gauge", "1 while every process reaches its broker.", (), "min"),
    Family("tidegate_broker_appends_total", "counter", "Messages appended to streams of this gateway."),
    Family("tidegate_broker_writes_total", "counter", "Writes to Redis that carried them."),
    Family("tidegate_broker_unwritten", "gauge", "Messages appended that Redis does not have yet."),
    Family("tidegate_broker_repairs_total", "counter", "Gaps that were filled from the log."),
    Family("tidegate_broker_links", "gauge", "Connections to Redis that are up.", ("link",)),
    Family("tidegate_broker_connects_total", "counter", "Times that one came up.", ("link",)),
    Family("tidegate_broker_failures_total", "counter", "Times that one was lost or could not be had.", ("link",)),
    Family("tidegate_broker_lag_seconds", "gauge",
           "How long the last probe took, or takes, to come back behind what was sent before it: on the link "
           "`broker` how far the reader is behind.", ("link",), "max"),
    # Analytics events.
    Family("tidegate_events_total", "counter", "Events by what became of them: `delivered`, `dropped` (the queue was "
           "full), `refused` by the sink, `lost` at a stop.", ("sink", "result")),
    Family("tidegate_events_waiting", "gauge", "Events that wait for a sink, those on their way included.", ("sink",)),
    Family("tidegate_events_retries_total", "counter", "Deliveries that had to be tried again.", ("sink",)),
    Family("tidegate_events_sink_up", "gauge", "Whether the brokers of a sink are reached, by all processes.",
           ("sink",), "min"),
    Family("tidegate_events_outbox", "gauge", "Events that are stored and not published yet.", ("sink",), "max"),
    Family("tidegate_events_published_total", "counter", "Events that a broker took out of an outbox.", ("sink",)),
    # The process.
    Family("tidegate_event_loop_lag_seconds", "histogram",
           "How late the event loop is, looked at twice a second.", (), bounds=LATENCY),
    Family("tidegate_log_lines_dropped_total", "counter",
           "Lines of the access log that were dropped because nobody took them."),
    Family("tidegate_workers", "gauge", "Processes that these figures are of."),
    Family("tidegate_draining", "gauge", "Processes that are about to stop."),
    Family("tidegate_info", "gauge", "Always 1.", ("version", "broker"), "max"),
    Family("process_cpu_seconds_total", "counter", "CPU time."),
    Family("process_resident_memory_bytes", "gauge", "Memory in use; what processes share counts for each."),
    Family("process_virtual_memory_bytes", "gauge", "Memory mapped."),
    Family("process_open_fds", "gauge", "File descriptors, sockets included."),
    Family("process_max_fds", "gauge", "How many of them one process may have.", (), "min"),
    Family("process_start_time_seconds", "gauge", "When the oldest process began.", (), "min"),
)  # fmt: skip

_BY_NAME = {family.name: family for family in FAMILIES}
