"""Where things are kept. Pure.

::

    requests/{yyyy}/{mm}/{dd}/{id}/input.json, record.json, image/original.png
    users/{userId}/image/history/{yyyy}/{mm}/{dd}.jsonl

An id carries its day, so that what it names is found without an index.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, date, datetime
from urllib.parse import quote

__all__ = ["history_path", "is_id", "new_id", "request_path", "user_folder"]

_ID = re.compile(r"[a-z]{2,8}_(\d{4})(\d{2})(\d{2})_[0-9a-f]{24}")


def new_id(kind: str, now: float) -> str:
    """An id such as ``img_20261121_…``: its day, seven digits of its millisecond, and 68 random bits.

    ``now`` is a Unix time in seconds.
    """
    moment = datetime.fromtimestamp(now, UTC)
    milliseconds = int(now % 86_400 * 1000)
    return f"{kind}_{moment:%Y%m%d}_{milliseconds:07x}{secrets.token_hex(9)[:17]}"


def is_id(text: str) -> bool:
    """Whether ``text`` could be an id; nothing else ever becomes a path."""
    return _ID.fullmatch(text) is not None


def request_path(item_id: str) -> str:
    """The folder of one request. Raises ``ValueError`` for what is no id."""
    match = _ID.fullmatch(item_id)
    if match is None:
        raise ValueError("not an id")
    return f"requests/{match[1]}/{match[2]}/{match[3]}/{item_id}"


def user_folder(user: str) -> str:
    """A folder's name for any user's id: what is not plain becomes ``=XX``. The anonymous caller has one of his own."""
    if not user:
        return "=anonymous"
    return quote(user, safe="").replace("%", "=").replace(".", "=2E").replace("~", "=7E")


def history_path(user: str, kind: str, day: date) -> str:
    """The index of what a user made on a day."""
    return f"users/{user_folder(user)}/{kind}/history/{day:%Y/%m/%d}.jsonl"
