"""What a filter lets through, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.ws.protocols.centrifuge_commands import Malformed, Refuse, Subscribe
from app.ws.protocols.centrifuge_json import JSON
from app.ws.protocols.centrifuge_protobuf import PROTOBUF
from app.ws.protocols.protobuf import delimited, varint
from app.ws.protocols.tag_filters import DEEPEST, MOST_NODES, TagFilter, Unfit

TAGS = {"ticker": "AAPL", "source": "NASDAQ", "price": "150.25", "volume": "1000", "empty": ""}


def leaf(cmp: str, key: str = "", val: str = "", *vals: str) -> dict[str, Any]:
    node: dict[str, Any] = {"key": key, "cmp": cmp, "val": val, "vals": list(vals)}
    return {name: value for name, value in node.items() if value}


YES, NO = leaf("ex", "ticker"), leaf("nex", "ticker")


@pytest.mark.parametrize(
    ("node", "passes"),
    [
        (leaf("eq", "ticker", "AAPL"), True),
        (leaf("eq", "ticker", "aapl"), False),
        (leaf("eq", "none", "AAPL"), False),
        (leaf("neq", "ticker", "MSFT"), True),
        (leaf("neq", "ticker", "AAPL"), False),
        (leaf("neq", "none", "AAPL"), True),
        (leaf("in", "ticker", "", "MSFT", "AAPL"), True),
        (leaf("in", "ticker", "", "MSFT"), False),
        (leaf("in", "none", "", "MSFT", ""), True),
        (leaf("nin", "ticker", "", "MSFT"), True),
        (leaf("nin", "ticker", "", "AAPL"), False),
        (leaf("nin", "none", "", "AAPL"), True),
        (leaf("ex", "empty"), True),
        (leaf("ex", "none"), False),
        (leaf("ex"), False),
        (leaf("nex", "none"), True),
        (leaf("nex", "empty"), False),
        (leaf("sw", "ticker", "AA"), True),
        (leaf("sw", "ticker", "PL"), False),
        (leaf("sw", "none", "AA"), False),
        (leaf("ew", "source", "DAQ"), True),
        (leaf("ew", "source", "NAS"), False),
        (leaf("ct", "source", "SDA"), True),
        (leaf("ct", "source", "sda"), False),
        (leaf("gt", "price", "100"), True),
        (leaf("gt", "price", "150.25"), False),
        (leaf("gte", "price", "150.250"), True),
        (leaf("lt", "price", "1000"), True),
        (leaf("lt", "price", "-1"), False),
        (leaf("lte", "volume", "1000.0"), True),
        (leaf("lte", "volume", "999.999"), False),
        (leaf("gt", "ticker", "1"), False),
        (leaf("lt", "ticker", "1"), False),
        (leaf("gt", "none", "-1"), False),
        (leaf("gt", "price", "one"), False),
        (leaf("lte", "price", "NaN"), False),
        (leaf("lt", "price", "Infinity"), False),
        (leaf("lt", "price", "1e999999999"), False),
        (leaf("gt", "price", "١"), False),
        ({"op": "and", "nodes": [YES, YES]}, True),
        ({"op": "and", "nodes": [YES, NO]}, False),
        ({"op": "or", "nodes": [NO, YES]}, True),
        ({"op": "or", "nodes": [NO]}, False),
        ({"op": "not", "nodes": [NO]}, True),
        ({"op": "not", "nodes": [{"op": "or", "nodes": [NO, {"op": "and", "nodes": [YES]}]}]}, False),
        ({"key": "ticker", "cmp": "eq", "val": "AAPL", "vals": None, "nodes": None, "op": None, "more": 1}, True),
    ],
)
def test_what_passes(node: dict[str, Any], passes: bool) -> None:
    assert TagFilter(node).matches(TAGS) is passes


@pytest.mark.parametrize(
    "node",
    [
        {},
        {"key": "a"},
        {"cmp": "eq", "val": "1"},
        leaf("eq", "a"),
        leaf("eq", "a", "1", "2"),
        leaf("in", "a"),
        leaf("in", "a", "1", "2"),
        leaf("in", "", "", "1"),
        leaf("ex", "a", "1"),
        leaf("nex", "a", "", "1"),
        leaf("like", "a", "1"),
        {"op": "xor", "nodes": [YES]},
        {"op": "and"},
        {"op": "or", "nodes": []},
        {"op": "not", "nodes": [YES, YES]},
        {"op": "and", "nodes": [{}]},
        {"op": "and", "nodes": [YES] * MOST_NODES},
        leaf("in", "a", "", *map(str, range(MOST_NODES))),
    ],
)
def test_what_is_no_filter_is_refused_in_both_flavours(node: dict[str, Any]) -> None:
    (command,) = JSON.commands(json.dumps({"id": 2, "subscribe": {"channel": "a", "tf": node}}).encode())
    assert isinstance(command, Refuse)
    assert command.fault.code == 107
    assert subscribed(wire(node)) == command


@pytest.mark.parametrize(
    "node",
    [1, "eq", [], {"op": 1}, {"key": 1, "cmp": "ex"}, {"cmp": "in", "key": "a", "vals": [1]}, {"cmp": "ex", "vals": {}},
     {"op": "and", "nodes": {}}, {"op": "and", "nodes": [1]}, {"cmp": "eq", "key": "a", "val": 1}],
)  # fmt: skip
def test_members_of_the_wrong_kind_are_no_command(node: Any) -> None:
    with pytest.raises(Malformed):
        list(JSON.commands(json.dumps({"id": 2, "subscribe": {"channel": "a", "tf": node}}).encode()))


def nested(depth: int) -> dict[str, Any]:
    node: dict[str, Any] = YES
    for _ in range(depth - 1):
        node = {"op": "not", "nodes": [node]}
    return node


def test_a_filter_may_be_so_deep_and_no_deeper() -> None:
    assert TagFilter(nested(DEEPEST)).matches(TAGS) is (DEEPEST % 2 == 1)
    with pytest.raises(Unfit):
        TagFilter(nested(DEEPEST + 1))


def wire(node: dict[str, Any]) -> bytes:
    """Encode a node by the public definition's numbers."""
    numbers = {"op": 1, "key": 2, "cmp": 3, "val": 4, "vals": 5, "nodes": 6}
    out = b""
    for name, value in node.items():
        for each in value if isinstance(value, list) else [value]:
            out += varint(numbers[name] << 3 | 2) + delimited(each.encode() if isinstance(each, str) else wire(each))
    return out


def subscribed(node: bytes) -> Any:
    request = b"\x0a" + delimited(b"a") + varint(13 << 3 | 2) + delimited(node)
    command = b"\x08\x02" + varint(5 << 3 | 2) + delimited(request)
    return next(PROTOBUF.commands(delimited(command)))


@pytest.mark.parametrize("node", [leaf("in", "a", "", "x", "y"), nested(DEEPEST), {"op": "or", "nodes": [YES, NO]}])
def test_both_flavours_read_the_same_filter(node: dict[str, Any]) -> None:
    command = subscribed(wire(node))
    assert isinstance(command, Subscribe)
    assert command.tags == TagFilter(node)
    assert hash(command.tags) == hash(TagFilter(node))
    assert command.tags != TagFilter(leaf("ex", "other"))


def test_a_tree_as_deep_as_a_frame_is_long_is_refused_and_nothing_worse() -> None:
    deep = b""
    for _ in range(5000):
        deep = b"\x0a\x03not\x32" + delimited(deep)
    assert isinstance(subscribed(deep), Refuse)
    assert isinstance(subscribed(b""), Refuse)
    with pytest.raises(Malformed):
        subscribed(b"\x2a\x01\xff")
