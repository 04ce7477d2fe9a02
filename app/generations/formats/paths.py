"""Paths into JSON values, as the configuration writes them: ``$.jobs[0].id``, ``jobs.0.id``, ``$.jobs[*].id``.

A part of JSONPath (RFC 9535): names, indexes, and ``*`` for all items of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["finder", "first_finder"]

_BRACKETS = re.compile(r"\[(\*|\d+)\]")


def finder(path: str) -> Callable[[Any], list[Any]]:
    """Return what lists the values at ``path``; null counts as none."""
    steps = _BRACKETS.sub(r".\1", path).removeprefix("$.").split(".")

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = [below for each in found for below in _below(each, step)]
        return [each for each in found if each is not None]

    return find


def first_finder(path: str) -> Callable[[Any], Any]:
    """Return what gives the first value at ``path``; None where there is none."""
    find = finder(path)
    return lambda value: next(iter(find(value)), None)


def _below(value: Any, step: str) -> list[Any]:
    if isinstance(value, dict):
        return [value[step]] if step in value else []
    if isinstance(value, list):
        if step == "*":
            return value
        if step.isdecimal() and int(step) < len(value):
            return [value[int(step)]]
    return []
