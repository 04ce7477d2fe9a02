"""What a form holds: read again from wherever it is, in base 64 as a whole would be."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest

from app.http.uploads.spool import Spool

BLOCK = 3 * 64 * 1024


@pytest.mark.parametrize("memory", [0, BLOCK, 100 * BLOCK])
async def test_values_are_read_in_pieces_as_often_as_they_are_asked_for_wherever_they_are(memory: int) -> None:
    contents = [bytes([number]) * size for number, size in enumerate([0, 1, 2, 3, BLOCK, BLOCK + 1, 2 * BLOCK - 1])]
    spool = Spool(memory)
    for content in contents:
        spool.begin()
        for start in range(0, len(content), 50_000):
            await spool.write(content[start : start + 50_000])
    for _ in range(2):
        for number, content in enumerate(contents):
            pieces = [piece async for piece in spool.in_base64(number)]
            assert b"".join(pieces) == b64encode(content)
            assert spool.length(number) == len(b64encode(content))
            assert spool.sha256(number) == sha256(content).hexdigest()
            assert spool.head(number, 2) == content[:2]
            assert all(len(piece) <= BLOCK // 3 * 4 for piece in pieces)
    spool.close()
    spool.close()
