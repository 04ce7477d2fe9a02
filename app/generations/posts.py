"""What upstreams post: reports of progress, and all that a job which is pushed says. Safe on any replica.

A post reaches the relay of its generation, wherever that runs. One that cannot be handed over now is refused with an
error that says "again": senders of webhooks try again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson

from app.auth.webhooks import Headers, WebhookSigner
from app.config.webhooks import WebhookConfig
from app.errors import BadRequest, BrokerUnavailable, Gone, NotFound, TidegateError
from app.generations.asking import Relays
from app.generations.channels import channel_of
from app.generations.formats.paths import first_finder
from app.generations.reports import parse_posts, parse_reports
from app.generations.requests import Info
from app.generations.running import Running, job_key
from app.generations.sources.job import usable_id
from app.generations.sources.port import Post
from app.generations.waiting import PAUSES
from app.streams.broker import Keys, Ledger, Record

__all__ = ["Posts"]

_POST, _REPORT = "generations.post", "generations.report"
"""Kinds of questions to relays."""


class Posts:
    """``counts`` are by what became of webhooks: ``taken``, or the code of the refusal."""

    def __init__(self, ledger: Ledger, keys: Keys, running: Running, relays: Relays) -> None:
        self.counts: Counter[str] = Counter()
        self._ledger = ledger
        self._keys = keys
        self._running = running
        self._relays = relays
        relays.on(_POST, lambda relay, said: relay.take(Post(str(said["id"]), said["body"].encode())))
        relays.on(_REPORT, lambda relay, said: relay.report(parse_reports(said["value"])))

    async def report(self, generation_id: str, value: Any) -> None:
        """Publish events that an upstream reports beside what the relay reads, or all of them where it is pushed.

        Raises :exc:`~app.errors.BadRequest`, ``NotFound``, ``Gone`` when it has ended, ``BrokerUnavailable``.
        """
        record = await self._ledger.record(channel_of(generation_id))
        if record is None:
            raise NotFound("There is no such generation, or it is no longer kept.")
        if self._is_pushed(record):
            for post in parse_posts(value):
                await self._hand_over(record, post)
            return
        parse_reports(value)  # What is none is refused here, whoever would take it.
        if record.closed or not await self._relays.ask(record, _REPORT, value=value):
            raise Gone("This generation has ended.")

    async def webhook(self, name: str, headers: Headers, body: bytes, now: float) -> None:
        """Take a signed post. Raises :exc:`~app.errors.InvalidSignature`, ``BadRequest``, ``NotFound``, ``Gone``,
        ``BrokerUnavailable``.
        """
        try:
            await self._webhook(name, headers, body, now)
        except TidegateError as error:
            self.counts[error.code] += 1
            raise
        self.counts["taken"] += 1

    async def _webhook(self, name: str, headers: Headers, body: bytes, now: float) -> None:
        config = self._running.config.webhooks.get(name)
        if config is None:
            raise NotFound
        post_id = signer_of(config).check(headers, body, now)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadRequest("The body is not JSON.") from error
        job_id = usable_id(first_finder(config.job)(value))
        if job_id is None:
            raise BadRequest("The body names no job.")
        record = await self._record(name, job_id)
        await self._hand_over(record, Post(post_id, body))

    async def _record(self, name: str, job_id: str) -> Record:
        for pause in (0.0, *PAUSES):  # It may post before the answer that names it is here.
            await asyncio.sleep(pause)
            generation_id = await self._keys.read(job_key(name, job_id))
            if generation_id is not None:
                record = await self._ledger.record(channel_of(generation_id.decode()))
                if record is not None:
                    return record
        raise NotFound("No such job is followed here.")

    async def _hand_over(self, record: Record, post: Post) -> None:
        relay = self._running.relays.get(record.stream)
        if record.closed or (relay is not None and relay.over):
            raise Gone("This generation has ended.")
        body = post.body.decode("utf-8", "replace")
        if not await self._relays.ask(record, _POST, id=post.id, body=body):
            raise BrokerUnavailable("Nobody can take this just now. Send it again.")

    def _is_pushed(self, record: Record) -> bool:
        job = Info.decode(record.info).job
        place = None if job is None else self._running.places.get(str(job.get("by")))
        return place is not None and place.config.source == "push"


def signer_of(config: WebhookConfig) -> WebhookSigner:
    return WebhookSigner(
        config.scheme,
        tuple(secret.get_secret_value() for secret in config.secrets),
        config.tolerance,
        config.header,
        config.prefix,
        config.encoding,
        config.timestamp_header,
        config.id_header,
    )
