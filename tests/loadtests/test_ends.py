"""The last messages of a channel: no later one shows that they are missing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from loadtests.replay.correlation import Names
from loadtests.replay.desk import Desk
from loadtests.replay.ends import Ends
from loadtests.replay.tally import Tally
from loadtests.session_format import Closed, Frame, Header, Opened, Record, Session, save
from tests.loadtests.broken import breaking
from tests.loadtests.support import replay
from tests.loadtests.test_replay import SECRET, config, sound
from tests.support.gateway import Gateway, free_port, running, token

CHANNEL = "room:one"


def listening(path: Path, protocol: str, *commands: dict[str, Any]) -> Path:
    """A page that hears a channel for two seconds, and then goes."""
    records: list[Record] = [Opened(0.0)]
    if protocol == "native":
        asked: dict[str, Any] = {"type": "subscribe", "id": 2, "channel": CHANNEL}
        told: dict[str, Any] = {"type": "reply", "id": 2, "ok": True, "channel": CHANNEL, "epoch": "recE", "offset": 0}
        url = "ws://recorded/api/v1/ws"
    else:
        records.append(Frame(0.0, "send", json.dumps({"id": 1, "connect": {"token": "${token}"}})))
        records.append(Frame(0.01, "receive", json.dumps({"id": 1, "connect": {"client": "c", "ping": 25}})))
        asked = {"id": 2, "subscribe": {"channel": CHANNEL, "recover": True, "epoch": "", "offset": 0}}
        told = {"id": 2, "subscribe": {"recoverable": True, "epoch": "recE", "offset": 0}}
        url = "ws://recorded/connection/websocket"
    records += [Frame(0.05, "send", json.dumps(asked)), Frame(0.06, "receive", json.dumps(told))]
    records += [Frame(2.0, "send", json.dumps(each)) for each in commands]
    records.append(Closed(2.2, code=1000))
    save(
        path,
        Session(Header(url, protocol, ["tidegate.v1", "bearer.${token}"] if protocol == "native" else []), records),
    )
    return path


@contextlib.asynccontextmanager
async def publishing(gateway: Gateway) -> AsyncIterator[None]:
    """Publish all the time."""

    async def publish() -> None:
        async with connect(f"ws://127.0.0.1:{gateway.port}/connection/websocket") as socket:
            await socket.send(json.dumps({"id": 1, "connect": {"token": token("publisher")}}))
            for number in range(2, 100_000):
                data = {"type": "delta", "n": number}
                await socket.send(json.dumps({"id": number, "publish": {"channel": CHANNEL, "data": data}}))
                await asyncio.sleep(0.02)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def silent(number: int, message: bytes) -> list[bytes]:
    return [message] if number <= 10 else []


def room(port: int, **rights: Any) -> Any:
    namespace = {"history_size": 500, "history_ttl": 60, "allow_subscribe": True, "allow_publish": True, **rights}
    return config(port, realtime={"namespaces": {"room": namespace}})


async def played(tmp_path: Path, protocol: str, faults: list[Any], *, rights: dict[str, Any]) -> dict[str, Any]:
    path = "/api/v1/ws" if protocol == "native" else "/connection/websocket"
    session = listening(tmp_path / "s.jsonl", protocol)
    options = ("-n", len(faults), "--settle", "2s", "--allow-void")
    async with (
        running(room(free_port(), **rights)) as gateway,
        breaking(gateway.port, faults) as wrong,
        publishing(gateway),
    ):
        return await replay(session, "--url", f"ws://127.0.0.1:{wrong}{path}", *SECRET, *options)


@pytest.mark.parametrize(
    ("protocol", "rights"),
    [("native", {}), ("centrifuge", {"allow_history": True}), ("centrifuge", {})],
    ids=["native", "centrifuge", "centrifuge without a right to the history"],
)
async def test_what_is_missing_at_the_very_end_of_a_channel_is_lost(
    tmp_path: Path, protocol: str, rights: dict[str, Any]
) -> None:
    verdict = await played(tmp_path, protocol, [sound, silent, sound], rights=rights)
    assert verdict["lost"] == verdict["lost_at_end"] > 10, verdict["said"]
    assert verdict["expected"] - verdict["delivered"] == verdict["lost"]
    assert verdict["doubled"] == verdict["reordered"] == verdict["gaps"] == verdict["divergence_count"] == 0
    assert (verdict["ends_checked"], verdict["ends_unchecked"]) == (3, 0)


async def test_an_end_that_nobody_can_tell_is_counted_as_that(tmp_path: Path) -> None:
    verdict = await played(tmp_path, "centrifuge", [silent], rights={})
    assert (verdict["lost"], verdict["ends_checked"], verdict["ends_unchecked"]) == (0, 0, 1)


async def test_nothing_is_lost_where_all_came_while_sockets_break(tmp_path: Path) -> None:
    session = listening(tmp_path / "s.jsonl", "native")
    async with running(room(free_port())) as gateway, publishing(gateway):
        options = ("-n", 6, "--url", gateway.ws, "--drop-every", "0.7s", "--offline", "0.2s", "--allow-void")
        verdict = await replay(session, *options, *SECRET)
    assert (verdict["lost"], verdict["doubled"], verdict["ends_unchecked"]) == (0, 0, 0), verdict["said"]
    assert verdict["ends_checked"] == 6
    assert verdict["drops"] > 3


def desk_at(offset: int, ends: Ends) -> Desk:
    desk = Desk(Tally(), Names(), "me", 0, set())
    desk.open("room", "e", 0, 0, generation=False).offset = offset
    desk.open("gen_1", "e", 99, 0, generation=True)
    ends.enter(desk)
    return desk


def test_others_know_how_far_a_channel_goes_also_when_they_have_left() -> None:
    ends = Ends()
    alone = desk_at(3, ends)
    stream = alone.streams["room"]
    assert ends.top("room", stream, 0) is None
    other = desk_at(7, ends)
    assert ends.top("room", stream, 50_000) is None, "a look is good for a while"
    assert ends.top("room", stream, 200_000) == 7
    ends.leave(other)
    ends.leave(other)
    assert ends.top("room", stream, 400_000) == 7
    stream.stand("another epoch", 0)
    assert ends.top("room", stream, 600_000) is None


def test_what_was_missing_at_the_end_and_comes_late_is_not_lost() -> None:
    tally = Tally()
    stream = Desk(tally, Names(), "me", 0, set()).open("room", "e", 0, 0, generation=False)
    stream.take("e", 1, 1)
    stream.ends_at(1)
    assert (tally.lost, tally.lost_at_end) == (0, 0)
    stream.ends_at(4)
    assert (tally.lost, tally.lost_at_end) == (3, 3)
    stream.take("e", 2, 1)
    stream.take("e", 5, 1)
    assert (tally.lost, tally.reordered, tally.delivered) == (2, 1, 3)
