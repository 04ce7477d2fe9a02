"""The atomic steps. Their sources lie in ``lua/``; each begins with what it takes and returns."""

from __future__ import annotations

from enum import Enum
from hashlib import sha1
from importlib.resources import files

__all__ = ["Script"]


_SHARED = {b"succeed(": "_succession.lua", b" budget(": "_budget.lua"}
"""What scripts call, and where it lies; it is put before them."""


class Script(Enum):
    """``sha`` is the name under which Redis keeps ``source``."""

    ADOPT = "adopt"
    APPEND = "append"
    BEGIN = "begin"
    BUDGET_RENEW = "budget_renew"
    BUDGET_RESERVE = "budget_reserve"
    BUDGET_SETTLE = "budget_settle"
    CLAIM = "claim"
    ENTER = "enter"
    EXPIRED = "expired"
    HISTORY = "history"
    LEASE = "lease"
    LEAVE = "leave"
    MARK = "mark"
    MARKS = "marks"
    NOTE = "note"
    PAGE = "page"
    POSITIONS = "positions"
    PRESENT = "present"
    PRESENT_COUNT = "present_count"
    PUBLISH = "publish"
    RENEW = "renew"
    SEAL = "seal"
    SLOTS_ENTER = "slots_enter"
    SLOTS_RENEW = "slots_renew"
    SLOTS_TRADE = "slots_trade"
    WINDOWS = "windows"

    def __init__(self, name: str) -> None:
        folder = files(__package__) / "lua"
        source = (folder / f"{name}.lua").read_bytes()
        for called, shared in _SHARED.items():
            if called in source:
                source = (folder / shared).read_bytes() + source
        self.source = source
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest()
