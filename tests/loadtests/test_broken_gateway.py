"""A gateway that does wrong once in so many messages, before two hundred users: the verdict counts each fault."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.loadtests.broken import Fault, breaking
from tests.loadtests.support import TOKENS, centrifuge_chat, native_chat, replay
from tests.loadtests.test_replay import SECRET, config
from tests.support.gateway import free_port, running

CLIENTS, EVERY = 200, 100
SOME = TOKENS[:30]
LAST = 20
"""Messages of a stream past this one are left alone, so that one that is held back has another behind it."""


def merged(message: bytes) -> int:
    value: dict[str, Any] = json.loads(message)
    tags = value["push"]["pub"].get("tags") or {} if "push" in value else value
    return int(tags.get("merged", 1))


class Rare:
    """Of the messages of all connections every so many-th is broken, each time in the next way."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.incomplete = 0
        """Streams that missed something at its time."""
        self._ways = itertools.cycle(("lost", "doubled", "reordered", "leaked"))
        self._seen = 0
        self._due = EVERY
        self._latest: tuple[object, bytes] | None = None

    def connection(self) -> Fault:
        held: list[bytes] = []
        spoiled: list[None] = []

        def spoil() -> None:
            self.incomplete += not spoiled
            spoiled.append(None)

        def fault(number: int, message: bytes) -> list[bytes]:
            self._seen += 1
            if held:
                return [message, held.pop()]
            others, self._latest = self._latest, (held, message)
            if self._seen < self._due or number > LAST or others is None or others[0] is held:
                return [message]
            self._due += EVERY
            way = next(self._ways)
            self.made[way] += 1 if way == "leaked" else merged(message)
            if way == "doubled":
                return [message, message]
            if way == "leaked":
                return [message, others[1]]
            spoil()
            if way == "reordered":
                held.append(message)
            return []

        return fault


@pytest.mark.timeout(180)
@pytest.mark.parametrize("protocol", ["native", "centrifuge"])
async def test_one_wrong_message_in_a_hundred_is_found_and_counted(tmp_path: Path, protocol: str) -> None:
    port, rare = free_port(), Rare()
    make = native_chat if protocol == "native" else centrifuge_chat
    path = "/api/v1/ws" if protocol == "native" else "/connection/websocket"
    session = make(tmp_path / "s.jsonl", tokens=SOME, pause=0.05)
    options = ("-n", CLIENTS, "--ramp", "1s", "--with-producer", "--producer-port", port, "--settle", "30s")
    wanted = [each for name in ("lost", "doubled", "reordered", "leaked") for each in ("--fail-if", f"{name}>0")]
    faults = [rare.connection() for _ in range(CLIENTS)]
    async with running(config(port)) as gateway, breaking(gateway.port, faults) as wrong:
        url = f"ws://127.0.0.1:{wrong}{path}"
        verdict = await replay(session, "--url", url, *SECRET, *options, *wanted, status=1)
    assert min(rare.made.values()) >= 5, rare.made
    assert {name: verdict[name] for name in rare.made} == dict(rare.made), verdict["said"]
    assert verdict["streams"] == verdict["completed"] == CLIENTS
    assert verdict["receipts_unchecked"] == rare.incomplete
    assert verdict["receipts_right"] == CLIENTS - rare.incomplete
    assert (verdict["receipts_wrong"], verdict["gaps"], verdict["unfinished"]) == (0, 0, 0)
    assert verdict["expected"] - verdict["delivered"] == verdict["lost"]
    assert verdict["said"].count("FAILED: ") == 4
