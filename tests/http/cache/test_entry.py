"""Entries as bytes: read back as they were, and whatever else lies there is no entry."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.http.cache.entry import Entry, decode_entry, encode_entry

NUMBER = st.floats(0, 1e12)
ENTRIES = st.builds(
    Entry,
    status=st.integers(0, 599),
    headers=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=50)), max_size=5).map(tuple),
    body=st.binary(max_size=200),
    stored_at=NUMBER,
    initial_age=NUMBER,
    lifetime=NUMBER,
    stale_while_revalidate=NUMBER,
    stale_if_error=NUMBER,
    always_validate=st.booleans(),
    strict=st.booleans(),
    vary=st.lists(st.binary(max_size=10), max_size=4).map(tuple),
)


@given(ENTRIES)
def test_an_entry_is_read_back_as_it_was(entry):
    assert decode_entry(encode_entry(entry)) == entry


@given(st.binary(max_size=200))
def test_other_bytes_are_no_entry(data):
    assert decode_entry(data) is None
    assert decode_entry(b"TGC1" + data) is None or len(data) > 40


@given(ENTRIES, st.data())
def test_an_entry_that_was_cut_is_never_longer_than_what_is_left(entry, data):
    encoded = encode_entry(entry)
    cut = encoded[: data.draw(st.integers(0, len(encoded)))]
    found = decode_entry(cut)
    assert found is None or entry.body.startswith(found.body)
