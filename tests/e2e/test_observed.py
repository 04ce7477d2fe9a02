"""What is counted, named and told of requests, over requests at random (invariants O1 and O2)."""

from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateway import Process, token
from tests.support.reading_services import Services, reading_services


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    with reading_services() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    file = tmp_path_factory.mktemp("observed") / "gateway.toml"
    file.write_text(
        '[server]\nlog_level = "critical"\nplayground = false\nbody_limit = 1000\n'
        'allowed_origins = ["https://a.example"]\ntrusted_hosts = ["127.0.0.1", "a"]\n'
        "[server.requests]\nbody_timeout = 1\n"
        f'[upstreams.up]\ntargets = ["{services.url}"]\n[upstreams.gone]\ntargets = ["http://127.0.0.1:1"]\n'
        "breaker = { consecutive_failures = 1000000, min_requests = 1000000 }\n"
        '[[routes]]\npath = "/open/*"\nupstream = "up"\nauth = "none"\n'
        '[[routes]]\npath = "/mine/*"\nmethods = ["GET"]\nupstream = "up"\n'
        '[[routes]]\npath = "/gone/*"\nupstream = "gone"\nauth = "none"\n'
        '[[routes]]\npath = "/few/*"\nupstream = "up"\nauth = "none"\n'
        'limits = ["few"]\n[limits.few]\nby = "ip"\nrequests = 3\nwindow = 3600\n'
        '[[routes]]\npath = "/own"\nauth = "none"\nanswer = { body = "{}" }\n'
    )
    process = Process(file)
    try:
        yield process
    finally:
        process.stop()


@pytest.fixture(scope="module")
def client(gateway: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.http, timeout=20) as made:
        yield made


ANSWERS = st.sampled_from(["200", "201", "204", "301", "404", "500", "503"])
PATHS = st.sampled_from(
    ["/open/a", "/open/b?x=1", "/mine/a", "/gone/x", "/few/x", "/own", "/nothing", "/health", "/a%00b"]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
WHO = st.sampled_from(
    [{}, {"Authorization": f"Bearer {token()}"}, {"Authorization": "Bearer nonsense"}, {"Host": "elsewhere.example"}]
)
FROM = st.sampled_from([{}, {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}])
"""With ``OPTIONS`` that is a question which the gateway answers itself."""
BODIES = st.sampled_from([b"", b"abc", b"x" * 1001])


def counted(client: httpx.Client) -> tuple[Counter[str], Counter[str]]:
    """Return how many requests were answered by class of status, and by route, but for those that asked for this."""
    classes: Counter[str] = Counter()
    routes: Counter[str] = Counter()
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == "tidegate_http_requests_total" and sample.labels["route"] != "/metrics":
                classes[sample.labels["status"]] += int(sample.value)
                routes[sample.labels["route"]] += int(sample.value)
    return classes, routes


@settings(max_examples=25, deadline=None)
@given(
    asked=st.lists(st.tuples(METHODS, PATHS, WHO, FROM, BODIES, ANSWERS), max_size=25),
    gone=st.integers(0, 3),
    broken=st.integers(0, 3),
)
def test_the_counters_are_what_the_client_counts(
    client: httpx.Client,
    gateway: Process,
    asked: list[tuple[str, str, dict[str, str], dict[str, str], bytes, str]],
    gone: int,
    broken: int,
) -> None:
    classes, routes = counted(client)
    for _ in range(gone):
        leave(gateway.port)
    ours: Counter[str] = Counter()
    for _ in range(broken):
        assert refused(gateway.port).startswith(b"HTTP/1.1 400 ")
        ours["4xx"] += 1
    routed = gone
    for method, path, who, page, body, answer in asked:
        got = client.request(method, path, headers={**who, **page, "X-Answer": answer}, content=body)
        ours[f"{got.status_code // 100}xx"] += 1
        asks_before = bool(page) and method == "OPTIONS"
        routed += path.startswith("/open/") and got.status_code not in (405, 421) and not asks_before
    now, routes_now = classes, routes
    for _ in range(100):  # Who is gone may be counted a moment later.
        now, routes_now = counted(client)
        if now.total() - classes.total() == len(asked) + gone + broken:
            break
    assert {name: now[name] - classes[name] for name in ours} == dict(ours)
    assert now.total() - classes.total() == len(asked) + gone + broken
    assert routes_now["/open/*"] - routes["/open/*"] == routed


def leave(port: int) -> None:
    """Begin a request and be gone: with a reset, once the gateway is at it."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        head = b"POST /open/gone HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head)
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")


def refused(port: int) -> bytes:
    """Send what is no request; return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /open/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        return connection.recv(65536)


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEX = st.text("0123456789abcdefABCDEFg", min_size=1, max_size=34)
PARENTS = st.one_of(
    st.sampled_from([
        f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-x", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}",
        "", "00", f"00-{TRACE}-{SPAN}-0g",
    ]),
    st.builds(lambda *parts: "-".join(parts), HEX, HEX, HEX, HEX),
    st.builds(lambda trace, span, flags: f"00-{trace:032x}-{span:016x}-{flags:02x}",
              st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.sampled_from([0, 1])),
)  # fmt: skip
IDS = st.one_of(st.just("mine-1"), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300))
ON_THE_WIRE = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
GOOD_ID = re.compile(r"[A-Za-z0-9._:/+=@,~-]{1,128}")


@settings(max_examples=150, deadline=None)
@given(parents=st.lists(PARENTS, max_size=2), ids=st.lists(IDS, max_size=2), path=PATHS, who=WHO, method=METHODS)
def test_every_request_has_one_id_and_one_trace_wherever_it_ends(
    client: httpx.Client, services: Services, parents: list[str], ids: list[str], path: str, who: dict[str, str],
    method: str,
) -> None:  # fmt: skip
    headers = [*who.items(), *[("traceparent", each) for each in parents], *[("x-request-id", each) for each in ids]]
    before = len(services.heads)
    answer = client.request(method, path, headers=headers)
    told = answer.headers.get_list("x-request-id")
    assert len(told) == 1
    assert re.fullmatch(r"[\x21-\x7e]{1,128}", told[0])
    if ids == ["mine-1"]:
        assert told == ids
    for head in services.heads[before:]:
        passed = [(name.decode(), value.decode()) for name, value in head.headers]
        assert [value for name, value in passed if name == "x-request-id"] == told
        traces = [value for name, value in passed if name == "traceparent"]
        assert len(traces) == 1
        assert ON_THE_WIRE.fullmatch(traces[0])
        if len(parents) == 1:
            read = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": parents[0]}))
            context = read.get_span_context()
            valid = context.is_valid and parents[0].startswith("00-") and parents[0] == parents[0].lower()
            assert (traces[0][3:35] == f"{context.trace_id:032x}") == valid, (parents, traces)


@pytest.mark.parametrize("named", [{}, {"traceparent": f"00-{TRACE}-{SPAN}-01"}])
def test_requests_that_are_alike_have_an_id_each(
    client: httpx.Client, services: Services, named: dict[str, str]
) -> None:
    """Also where the gateway knows a request by its bytes, and what goes upstream of it."""
    before = len(services.heads)
    told = [client.get("/open/alike", headers=named).headers["x-request-id"] for _ in range(8)]
    assert len(set(told)) == 8
    heads = [dict(head.headers) for head in services.heads[before:]]
    assert [head[b"x-request-id"].decode() for head in heads] == told
    traces = [head[b"traceparent"].decode().split("-") for head in heads]
    assert {trace[1] for trace in traces} == {TRACE} if named else len({trace[1] for trace in traces}) == 8
