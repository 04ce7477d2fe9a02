"""Filters of a channel's messages by their tags, as a client of the Centrifuge protocol names them.

A filter is a tree: ``and``, ``or`` and ``not`` over comparisons of one tag's text with a value. It is read once, when a
client subscribes, and made a function then. Filters that say the same are equal, so that those who share one cost no
more than one of them. What a tag that is not there compares to is the original's: unequal to everything, and in a list
that holds the empty text. Numbers are decimal, and what is no number is no part of any order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

__all__ = ["DEEPEST", "MOST_NODES", "TagFilter", "Unfit"]

MOST_NODES = 256
"""Parts that a filter may have: it is asked for each message."""
DEEPEST = 32
"""Levels of its tree."""
_NUMBER = re.compile(r"[+-]?[0-9]{1,100}(\.[0-9]{1,100})?", re.ASCII)

Tags = Mapping[str, str]
Test = Callable[[Tags], bool]


class Unfit(ValueError):
    """A tree that is no filter, or too large a one."""


class TagFilter:
    """One filter. ``matches`` says of a message's tags whether the message passes.

    Made of the protocol's node: ``op``, ``key``, ``cmp``, ``val`` (texts), ``vals`` (texts), ``nodes``. Raises
    :exc:`Unfit`, and TypeError for members of the wrong kind.
    """

    __slots__ = ("_sense", "matches")

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._sense: tuple[Any, ...] = _sense(node, 1)
        if _size(self._sense) > MOST_NODES:
            raise Unfit
        self.matches: Test = _test(self._sense)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagFilter) and self._sense == other._sense

    def __hash__(self) -> int:
        return hash(self._sense)


def _sense(node: Any, depth: int) -> tuple[Any, ...]:
    """Return what a node says as nested tuples: ``(op, …)`` of nodes, or ``("", cmp, key, values)``."""
    if not isinstance(node, Mapping):
        raise TypeError
    if depth > DEEPEST:
        raise Unfit
    op, nodes = _text(node, "op"), _list(node, "nodes")
    if op:
        if op not in _JOINED or not nodes or (op == "not" and len(nodes) != 1):
            raise Unfit
        return (op, *(_sense(each, depth + 1) for each in nodes))
    compared, key, value, values = _text(node, "cmp"), _text(node, "key"), _text(node, "val"), _list(node, "vals")
    if not all(isinstance(each, str) for each in values):
        raise TypeError
    if compared in _OF_PRESENCE:
        fits = not value and not values
    elif compared in _OF_LISTS:
        fits = bool(key and values) and not value
    else:
        fits = compared in _OF_VALUES and bool(key and value) and not values
    if not fits:
        raise Unfit
    return ("", compared, key, tuple(values) if compared in _OF_LISTS else value)


def _text(node: Mapping[str, Any], name: str) -> str:
    value = node.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError
    return value or ""


def _list(node: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = node.get(name)
    if value is not None and not isinstance(value, list):
        raise TypeError
    return value or ()


def _size(sense: tuple[Any, ...]) -> int:
    if sense[0]:
        return 1 + sum(_size(each) for each in sense[1:])
    return 1 + (len(sense[3]) if sense[1] in _OF_LISTS else 0)


def _test(sense: tuple[Any, ...]) -> Test:
    if sense[0]:
        return _JOINED[sense[0]]([_test(each) for each in sense[1:]])
    _, compared, key, value = sense
    if compared in _OF_PRESENCE:
        present = compared == "ex"
        return lambda tags: (key in tags) is present
    if compared in _OF_LISTS:
        wanted, listed = compared == "in", frozenset(value)
        return lambda tags: (tags.get(key, "") in listed) is wanted
    return _OF_VALUES[compared](key, value)


def _equal(key: str, value: str) -> Test:
    return lambda tags: tags.get(key) == value


def _unequal(key: str, value: str) -> Test:
    return lambda tags: tags.get(key) != value


def _part(fits: Callable[[str, str], bool]) -> Callable[[str, str], Test]:
    def make(key: str, value: str) -> Test:
        return lambda tags: key in tags and fits(tags[key], value)

    return make


def _ordered(fits: Callable[[Decimal, Decimal], bool]) -> Callable[[str, str], Test]:
    def make(key: str, value: str) -> Test:
        bound = _number(value)
        if bound is None:
            return lambda tags: False
        return lambda tags: (number := _number(tags.get(key, ""))) is not None and fits(number, bound)

    return make


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


_JOINED: dict[str, Callable[[list[Test]], Test]] = {
    "and": lambda tests: lambda tags: all(test(tags) for test in tests),
    "or": lambda tests: lambda tags: any(test(tags) for test in tests),
    "not": lambda tests: lambda tags: not tests[0](tags),
}
_OF_PRESENCE = ("ex", "nex")
_OF_LISTS = ("in", "nin")
_OF_VALUES: dict[str, Callable[[str, str], Test]] = {
    "eq": _equal,
    "neq": _unequal,
    "sw": _part(str.startswith),
    "ew": _part(str.endswith),
    "ct": _part(str.__contains__),
    "gt": _ordered(Decimal.__gt__),
    "gte": _ordered(Decimal.__ge__),
    "lt": _ordered(Decimal.__lt__),
    "lte": _ordered(Decimal.__le__),
}
