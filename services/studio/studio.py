"""The state of a service that keeps what it makes: its queue, its archive, its webhooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request

from services.jobs.board import Board, Work
from services.jobs.job import Job
from services.jobs.webhooks import Webhooks
from services.storage.archive import Archive, Item
from services.storage.paths import new_id
from services.studio.settings import StudioSettings
from services.web.application import service_application
from services.web.callers import Caller, Guard, caller_of
from services.web.errors import NotFound
from services.web.streaming import until_disconnect
from services.web.tokens import TokenCallers

__all__ = ["Studio"]


class Studio:
    """``kind`` names the index of the archive, ``short`` begins ids, ``path`` is where links begin."""

    def __init__(self, settings: StudioSettings, kind: str, short: str, path: str) -> None:
        self.settings = settings
        self.path = path
        self.board = Board(kind, settings.workers, settings.queue_limit, settings.keep)
        key = settings.signing_key.get_secret_value().encode()
        self.archive = Archive(settings.storage, kind, key, store_links=settings.store_links)
        self.guard = Guard(settings.internal_key, settings.trust_roles or settings.jwt_secret is not None)
        self.webhooks = Webhooks(settings.webhook_hosts, settings.webhook_secret)
        self._short = short

    async def open(self) -> None:
        """Nothing to be opened: connections come with the first use."""

    async def close(self) -> None:
        """Cancel the jobs, send the last webhooks."""
        await self.board.close()
        await self.webhooks.close()

    def submit(self, request: Request, details: Mapping[str, Any], work: Work, callback: str | None = None) -> Job:
        """Queue a job of the caller. ``work`` returns ``artifacts``, whose links its last events tell.

        Raises ``Overloaded``, and ``Invalid`` for a callback that may not be called.
        """
        if callback is not None:
            self.webhooks.check(callback)
        base = self.base(request)

        async def finished(job: Job) -> Mapping[str, Any]:
            result = await work(job)
            artifacts = self.linked(job.id, result["artifacts"], base)
            for artifact in artifacts:
                job.publish("artifact", index=artifact["index"], mime=artifact["mime"], url=artifact["url"])
            return {**result, "artifacts": artifacts}

        job = Job(new_id(self._short, time.time()), caller_of(request).user, details)
        self.board.submit(job, finished)
        if callback is not None:
            self.webhooks.follow(job, callback)
        return job

    async def outcome(self, request: Request, job: Job) -> Job | None:
        """The ended job, or None when the client left before, which has cancelled it."""
        try:
            return await until_disconnect(request.receive, job.wait())
        finally:
            self.board.cancel(job)

    def application(self, title: str, description: str, health: Callable[[], Mapping[str, Any]]) -> FastAPI:
        """The frame of the service, with what all that keep something have in common."""
        app = service_application(
            title, description, self.settings.body_limit, health, self.open, self.close,
            {"storage": self.archive.check},
        )  # fmt: skip
        if self.settings.jwt_secret is not None:
            key = self.settings.internal_key.get_secret_value() if self.settings.internal_key else None
            app.add_middleware(TokenCallers, secret=self.settings.jwt_secret.get_secret_value(), internal_key=key)
        return app

    async def visible(self, request: Request, limit: int, before: date | None) -> list[dict[str, Any]]:
        """What the caller may list: an administrator what all made, any other user his own. Raises ``Forbidden``."""
        caller = caller_of(request)
        if caller.user and not self.guard.is_admin(request):
            records = await self.archive.newest_of(caller.user, limit, before)
        else:
            self.guard.admin(request)
            records = await self.archive.newest(limit, before)
        return [self.of_record(record, self.base(request)) for record in records]

    async def keep(self, job: Job, item: Item) -> None:
        """Put what a job made in the archive and in its owner's index."""
        record = item.record
        summary = {name: record[name] for name in ("created", "model", "units", "milliseconds")}
        await self.archive.save(item, summary)

    def base(self, request: Request) -> str:
        """Where the links of an answer to this request begin."""
        return (self.settings.public_url or str(request.base_url).rstrip("/")) + self.path

    def linked(self, item_id: str, artifacts: Sequence[Mapping[str, Any]], base: str) -> list[dict[str, Any]]:
        """Artifacts with links to them."""
        with_links = []
        for artifact in artifacts:
            url, expires = self.archive.link(base, item_id, artifact["name"], self.settings.link_seconds)
            with_links.append({**artifact, "url": url, "expires_at": expires})
        return with_links

    async def document(self, request: Request, caller: Caller, item_id: str) -> dict[str, Any]:
        """What is known of a generation. Raises ``NotFound``, also for what is another user's."""
        job = self.board.get(item_id)
        if job is not None and caller.may_see(job.owner):
            return self.of_job(job, self.base(request))
        record = None if job is not None else await self.archive.record(item_id)
        if record is None or not caller.may_see(str(record["owner"])):
            raise NotFound("There is no such generation.", "id")
        return self.of_record(record, self.base(request))

    def of_job(self, job: Job, base: str) -> dict[str, Any]:
        """The document of a job."""
        document = {"progress": job.latest("progress"), "preview": job.latest("preview"), **job.document()}
        if job.result is not None:
            document |= job.result
            document["artifacts"] = self.linked(job.id, job.result.get("artifacts", ()), base)
        return document

    def of_record(self, record: Mapping[str, Any], base: str) -> dict[str, Any]:
        """The document of a generation that only the archive remembers."""
        item_id = str(record["id"])
        document = {"generation_id": item_id, "status": "completed", "percent": 100.0, **record}
        document["artifacts"] = self.linked(item_id, record["artifacts"], base)
        return document

    async def delete(self, caller: Caller, item_id: str) -> dict[str, Any]:
        """Cancel a generation that runs, delete what one made that has ended. Raises ``NotFound``."""
        job = self.board.get(item_id)
        if job is not None and not caller.may_see(job.owner):
            raise NotFound("There is no such generation.", "id")
        if job is not None and not job.ended:
            self.board.cancel(job)
            await job.wait()
            if job.status == "cancelled":
                return {"id": item_id, "status": "cancelled", "deleted": True}
        record = await self.archive.record(item_id)
        if job is None and (record is None or not caller.may_see(str(record["owner"]))):
            raise NotFound("There is no such generation.", "id")
        if job is not None:
            self.board.forget(job)
        await self.archive.delete(item_id)
        return {"id": item_id, "status": "deleted", "deleted": True}
