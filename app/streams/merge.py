"""Fewer messages that say the same.

A reader who comes late or reads slowly need not be sent ten thousand tokens one by one: consecutive pieces of text are
one text, and of consecutive progress reports only the last one matters. What may merge with what is not known here: a
:class:`MergeRule` says it (``app.generations.merging`` for generations).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from app.streams.publication import Publication

__all__ = ["MAX_MERGED", "MergeRule", "NeverMerge", "merge"]

MAX_MERGED = 256 * 1024
"""Bytes after which a merged message is ended and another begun, so that no frame grows without bound."""


class MergeRule(Protocol):
    def key(self, data: bytes) -> str | None:
        """Name what ``data`` merges with: neighbours of one key become one message. None: it stays alone."""

    def combine(self, key: str, items: Sequence[bytes]) -> Sequence[tuple[bytes, int]]:
        """Return the messages that stand for ``items``, two or more of one key, in order: one, or as few as can be.

        With each comes how many of ``items`` it stands for.
        """


class NeverMerge:
    """For channels whose messages mean nothing to us."""

    def key(self, data: bytes) -> str | None:
        return None

    def combine(self, key: str, items: Sequence[bytes]) -> Sequence[tuple[bytes, int]]:
        raise AssertionError("nothing has a key, so nothing is combined")


def merge(publications: Iterable[Publication], rule: MergeRule) -> list[Publication]:
    """Return ``publications`` (contiguous, one epoch) with neighbours merged as ``rule`` says; order stays."""
    merged: list[Publication] = []
    run: list[Publication] = []
    run_key: str | None = None
    size = 0
    for publication in publications:
        key = rule.key(publication.data)
        if run and (key is None or key != run_key or size + len(publication.data) > MAX_MERGED):
            merged += _combine(run, run_key, rule)
            run, size = [], 0
        run.append(publication)
        run_key = key
        size += len(publication.data)
    if run:
        merged += _combine(run, run_key, rule)
    return merged


def _combine(run: list[Publication], key: str | None, rule: MergeRule) -> list[Publication]:
    if len(run) == 1 or key is None:
        return run
    combined, at = [], 0
    for data, count in rule.combine(key, [publication.data for publication in run]):
        part, at = run[at : at + count], at + count
        combined.append(Publication(part[-1].offset, data, sum(publication.merged for publication in part)))
    return combined
