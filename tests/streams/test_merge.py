"""Merging keeps the order and every byte."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from app.streams.merge import MAX_MERGED, NeverMerge, merge
from app.streams.publication import Publication


class Letters:
    """Neighbours that begin with the same letter merge; digits never do."""

    def key(self, data: bytes) -> str | None:
        return None if data[:1].isdigit() else data[:1].decode()

    def combine(self, key: str, items: Sequence[bytes]) -> Sequence[tuple[bytes, int]]:
        assert len(items) > 1
        return [(b"+".join(items), len(items))]


class Pairs(Letters):
    """No more than two merge."""

    def combine(self, key: str, items: Sequence[bytes]) -> Sequence[tuple[bytes, int]]:
        pairs = [items[at : at + 2] for at in range(0, len(items), 2)]
        return [(b"+".join(pair), len(pair)) for pair in pairs]


def publications(*items: bytes, first: int = 1) -> list[Publication]:
    return [Publication(offset, data) for offset, data in enumerate(items, first)]


def test_neighbours_of_one_key_become_one_message_that_ends_at_the_last_offset() -> None:
    merged = merge(publications(b"a1", b"a2", b"b1", b"7", b"8", b"a3", first=5), Letters())
    assert merged == [
        Publication(6, b"a1+a2", 2),
        Publication(7, b"b1"),
        Publication(8, b"7"),
        Publication(9, b"8"),
        Publication(10, b"a3"),
    ]


def test_what_was_merged_merges_again_and_counts_on() -> None:
    once = merge(publications(b"a1", b"a2"), Letters())
    assert merge([*once, Publication(3, b"a3")], Letters()) == [Publication(3, b"a1+a2+a3", 3)]


def test_neighbours_that_cannot_all_be_one_become_several_each_over_its_own_offsets() -> None:
    once = merge(publications(b"a1", b"a2", b"a3", b"a4", b"a5", b"b1"), Pairs())
    assert [(each.offset, each.merged) for each in once] == [(2, 2), (4, 2), (5, 1), (6, 1)]
    again = merge(once, Pairs())
    assert [(each.offset, each.merged) for each in again] == [(4, 4), (5, 1), (6, 1)]


def test_nothing_merges_to_nothing() -> None:
    assert merge([], Letters()) == []


def test_a_merged_message_has_an_end() -> None:
    big = b"a" * (MAX_MERGED // 3)
    merged = merge(publications(*[big] * 7), Letters())
    assert [publication.merged for publication in merged] == [3, 3, 1]
    assert merge(publications(b"a" * (2 * MAX_MERGED), b"a"), Letters())[0].merged == 1


def test_never_merge_never_merges() -> None:
    given_ = publications(b"a", b"a", b"b")
    assert merge(given_, NeverMerge()) == given_


@given(st.lists(st.sampled_from([b"a", b"ab", b"b", b"c", b"1"]), max_size=40))
def test_the_same_text_in_the_same_order_over_the_same_offsets(items: list[bytes]) -> None:
    merged = merge(publications(*items), Letters())
    assert [item for publication in merged for item in publication.data.split(b"+")] == items
    covered = [
        offset
        for publication in merged
        for offset in range(publication.offset - publication.merged + 1, publication.offset + 1)
    ]
    assert covered == list(range(1, len(items) + 1))
