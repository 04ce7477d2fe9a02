"""Commands that are waited for, each sent to the master that owns its key, with one error for whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import hiredis

from app.errors import BrokerUnavailable
from app.observe.tasks import TaskSet
from app.streams.redis.cluster import address_in
from app.streams.redis.layout import slot_of
from app.streams.redis.link import Callback, Link, pack
from app.streams.redis.links import Links
from app.streams.redis.script import Script
from app.streams.redis.server import Master
from app.streams.redis.topology import Topology

__all__ = ["Client", "Script"]

_AGAIN = ("TRYAGAIN", "READONLY")
"""Errors of commands that were not carried out and soon can be: a slot is on its way, or a master was replaced."""
_PAUSE = 0.03
_ASKING = pack("ASKING")
_KEYLESS = frozenset({"ACL", "CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "PUBSUB", "ROLE", "SCRIPT"})
"""Commands without a key, which any master takes."""

Command = Sequence[Any]


class Client:
    """Commands that fail within ``timeout`` seconds rather than wait. Replies are bytes, ints, lists and None.

    Every method raises :exc:`~app.errors.BrokerUnavailable`, and nothing else, when Redis does not do as it was asked.
    Nothing is carried out twice: a publication whose answer got lost may have happened, and only what a server refused
    is sent again. While a link is down, callers wait at most ``patience`` seconds for it. The links are opened with the
    first command.

    ``copies`` is how many of a server's replicas must have what was written, within how many seconds, before that
    counts as done: else it fails, though it is there. Whatever else goes over the links waits meanwhile.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        timeout: float,
        patience: float,
        name: str = "client",
        copies: tuple[int, float] | None = None,
    ) -> None:
        self.topology = topology
        self._timeout = timeout
        self._patience = patience
        self._links = Links(name, topology, _ready, timeout=timeout)
        self._wait = None if copies is None else pack("WAIT", copies[0], max(1, round(copies[1] * 1000)))
        self._copies = 0 if copies is None else copies[0]
        self._tasks = TaskSet()

    @property
    def links(self) -> Links:
        return self._links

    async def close(self) -> None:
        """End the links and what kept the topology."""
        await self._tasks.close()
        await self.topology.close()

    async def command(self, *command: Any) -> Any:
        return (await self.pipeline([command]))[0]

    async def script(self, script: Script, keys: Sequence[str], *arguments: Any) -> Any:
        return (await self.scripts(script, [(keys, arguments)]))[0]

    async def scripts(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run ``script`` for each (keys, arguments), in one round trip for each server."""
        return _checked(await self.each_script(script, calls))

    async def each_script(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Do what :meth:`scripts` does; where a call failed its error stands in the place of the reply."""
        commands = [("EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]
        sources = [("EVAL", script.source, *command[2:]) for command in commands]
        return await self._all(commands, sources)

    def post(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any], Callback]]) -> bool:
        """Run ``script`` for each (keys, arguments), in one write, and return without waiting.

        Each callback gets its reply, the server's error (then nothing was done) or
        :exc:`~app.errors.BrokerUnavailable`; nobody looks how long that takes. False where no link is up, or several
        may be: then nothing was sent.
        """
        link = None if self.topology.sharded else self._links.of(0)
        if link is None:
            return False
        sha = script.sha
        packed = [pack("EVALSHA", sha, len(keys), *keys, *arguments) for keys, arguments, _ in calls]
        link.send(b"".join(packed), [callback for _, _, callback in calls])
        return True

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send ``commands`` in one round trip for each server and return their replies in order."""
        return _checked(await self._all(commands, None))

    async def require_all(self) -> None:
        """Raise unless every master can be reached."""
        async with self._bounded():
            await self._all_up()

    # Private.

    @asynccontextmanager
    async def _bounded(self) -> Any:
        if not self._tasks:
            self._tasks.start(self._links.run(), "redis client")
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            raise BrokerUnavailable from error

    async def _all(self, commands: Sequence[Command], sources: Sequence[Command] | None) -> list[Any]:
        """Send ``commands``; those of scripts that a server does not know it gets as in ``sources``.

        A reply that is an error stands in its place.
        """
        packed = _packed(commands)
        replies: list[Any] = [None] * len(packed)
        todo = list(range(len(packed)))
        async with self._bounded():
            detours: dict[int, Master] = {}
            while todo:
                await self._round([(index, commands[index], packed[index]) for index in todo], replies, detours)
                failed = [index for index in todo if isinstance(replies[index], hiredis.ReplyError)]
                detours = {}
                todo = [index for index in failed if self._worth_another(index, replies, packed, sources, detours)]
                if any(str(replies[index]).startswith(_AGAIN) for index in todo):
                    await asyncio.sleep(_PAUSE)
        return [_translated(reply) for reply in replies]

    def _worth_another(
        self,
        index: int,
        replies: Sequence[Any],
        packed: list[bytes],
        sources: Sequence[Command] | None,
        detours: dict[int, Master],
    ) -> bool:
        error = str(replies[index])
        if error.startswith("NOSCRIPT") and sources is not None:
            packed[index] = pack(*sources[index])
            return True
        place = address_in(error, None)
        if place is not None:
            if error.startswith("ASK"):
                detours[index] = self.topology.at(place[1])
            else:
                self.topology.moved(*place)
            return True
        if error.startswith("READONLY"):
            for link in self._links.all():
                link.abort()
            self.topology.doubt()
        return error.startswith(_AGAIN)

    async def _round(
        self, todo: Sequence[tuple[int, Command, bytes]], replies: list[Any], detours: dict[int, Master]
    ) -> None:
        """Send what there is ``todo`` (place, command, packed), all to one server in one write."""
        if not self.topology.sharded:
            link = await self._link(lambda: self._links.of(0))
            answers = await self._with_copies(link, [packed for _, _, packed in todo])
            for (index, _, _), answer in zip(todo, answers, strict=True):
                replies[index] = answer
            return
        groups: dict[Link, list[tuple[int, bytes]]] = {}
        for index, command, packed in todo:
            link = await self._link(self._finder(command, detours.get(index)))
            groups.setdefault(link, []).append((index, packed))

        async def send(link: Link, group: list[tuple[int, bytes]]) -> None:
            for (index, _), answer in zip(group, await self._calls(link, group, detours), strict=True):
                replies[index] = answer

        await asyncio.gather(*[send(link, group) for link, group in groups.items()])

    async def _calls(self, link: Link, group: Sequence[tuple[int, bytes]], detours: dict[int, Master]) -> list[Any]:
        """Send a group to its server; before a command that was told to ask there goes an ASKING."""
        commands: list[bytes] = []
        wanted: list[int] = []
        for index, packed in group:
            if index in detours:
                commands.append(_ASKING)
            wanted.append(len(commands))
            commands.append(packed)
        replies = await self._with_copies(link, commands)
        return [replies[place] for place in wanted]

    async def _with_copies(self, link: Link, commands: list[bytes]) -> list[Any]:
        """Send ``commands`` and return their replies; where there are fewer copies than wanted, errors instead."""
        if self._wait is None:
            return await link.calls(commands)
        *replies, copies = await link.calls([*commands, self._wait])
        if isinstance(copies, int) and copies >= self._copies:
            return replies
        error = BrokerUnavailable()
        error.__cause__ = copies if isinstance(copies, BaseException) else None
        return [reply if isinstance(reply, hiredis.ReplyError) else error for reply in replies]

    def _finder(self, command: Command, detour: Master | None) -> Callable[[], Link | None]:
        if detour is not None:
            return lambda: self._links.to(detour)
        key = _key_of(command)
        if key is None:
            return lambda: next(iter(self._links.all()), None)
        slot = slot_of(key)
        return lambda: self._links.of(slot)

    async def _link(self, find: Callable[[], Link | None]) -> Link:
        """Return what ``find`` finds, if need be in a while. Raises :exc:`~app.errors.BrokerUnavailable`."""
        link = find()
        if link is None:
            try:
                async with asyncio.timeout(self._patience):
                    while (link := find()) is None:
                        await self._links.wait()
            except TimeoutError as error:
                raise BrokerUnavailable from error
        return link

    async def _all_up(self) -> None:
        await self._link(lambda: self._links.all()[0] if self._links.healthy else None)


def _key_of(command: Command) -> Any:
    """Return the key that decides where ``command`` goes; None where any server will do."""
    name = command[0]
    if name in ("EVALSHA", "EVAL"):
        return command[3]
    if name == "PUBSUB" and command[1] == "SHARDNUMSUB":
        return command[2]
    return None if name in _KEYLESS else command[1]


def _packed(commands: Sequence[Command]) -> list[bytes]:
    try:
        return [pack(*command) for command in commands]
    except TypeError as error:
        raise BrokerUnavailable from error


def _translated(reply: Any) -> Any:
    if not isinstance(reply, hiredis.ReplyError):
        return reply
    error = BrokerUnavailable()
    error.__cause__ = reply
    return error


def _checked(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, BrokerUnavailable):
            raise reply
    return replies


async def _ready(master: Master, link: Link) -> None:
    pass
