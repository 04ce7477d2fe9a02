"""Header fields of answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Headers", "with_vary"]

Headers = list[tuple[bytes, bytes]]


def with_vary(headers: Headers, names: Sequence[bytes]) -> Headers:
    """Return ``headers`` with one ``Vary`` that also names ``names`` (lower case), where it does not say ``*``."""
    said = [token.strip() for name, value in headers if name == b"vary" for token in value.split(b",")]
    known = {token.lower() for token in said}
    if b"*" in known or known.issuperset(names):
        return headers
    said += [name for name in names if name not in known]
    return [*(field for field in headers if field[0] != b"vary"), (b"vary", b", ".join(filter(None, said)))]
