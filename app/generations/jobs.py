"""Where jobs are begun and followed, by the configuration; and the source of one.

A place has a name, which is kept beside a job's lease: another replica finds by it how to go on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.auth.headers import identity_headers
from app.auth.identity import Identity
from app.config import GenerationConfig, GenerationsConfig, RouteConfig
from app.config.jobs import JobConfig, RouteGenerationConfig
from app.generations.formats import POLL_DECODERS, STREAM_DECODERS
from app.generations.formats.decoders import PollDecoder
from app.generations.formats.jobs import job_documents, job_events
from app.generations.formats.screenshot_to_code import screenshot_to_code
from app.generations.receipt import Snapshot
from app.generations.sources.automatic1111 import Automatic1111Source
from app.generations.sources.comfyui import ComfySource
from app.generations.sources.follow import StreamFollower
from app.generations.sources.job import Beginning, Follower, Job, JobSource, Named
from app.generations.sources.poll import PollFollower
from app.generations.sources.port import Patience, Source
from app.generations.sources.push import PushFollower
from app.generations.sources.socket import SocketSource

__all__ = ["JobPlace", "job_source", "kind_place", "patience_of", "place_name", "places_of"]


@dataclass(frozen=True, slots=True)
class JobPlace:
    """One table of the configuration that jobs are followed by. ``kind`` is what its generations are called."""

    name: str
    kind: str
    upstream: str
    config: JobConfig
    patience: Patience
    max_bytes: int | None
    children: str = ""
    """Where the ids of a batch's jobs stand in the answer."""
    limits: tuple[str, ...] = ()
    """What lets a request in that begins one of its jobs, where that is not asked for as a kind."""


def kind_place(kind: str, config: GenerationConfig) -> JobPlace:
    """Return the place of a kind that has a ``job``."""
    assert config.job is not None, "the caller looked"
    patience = patience_of(config)
    return JobPlace(f"kind {kind}", kind, config.upstream, config.job, patience, config.max_bytes)


def place_name(route: RouteConfig) -> str:
    """Return the name of a route's place."""
    return f"route {','.join(route.methods)} {','.join(route.hosts)}{route.path}"


def places_of(config: GenerationsConfig, routes: Iterable[RouteConfig]) -> dict[str, JobPlace]:
    """Return all places by name."""
    places = [kind_place(kind, each) for kind, each in config.kinds.items() if each.job is not None]
    for route in routes:
        tracked = route.generation
        if tracked is not None:
            places.append(_route_place(route, tracked, config))
    return {place.name: place for place in places}


def _route_place(route: RouteConfig, tracked: RouteGenerationConfig, config: GenerationsConfig) -> JobPlace:
    kind = config.kinds.get(tracked.kind)
    named = (*(() if kind is None else kind.limits), *tracked.limits)
    return JobPlace(
        place_name(route),
        tracked.kind,
        route.upstream,
        tracked,
        patience_of(tracked),
        None if kind is None else kind.max_bytes,
        tracked.children,
        tuple(name for name in dict.fromkeys(named) if name not in route.limits),  # The route itself counts those.
    )


def patience_of(config: GenerationConfig | RouteGenerationConfig) -> Patience:
    return Patience(config.first_event_timeout, config.idle_timeout, config.total_timeout)


def job_source(
    place: JobPlace,
    identity: Identity,
    generation_id: str,
    *,
    beginning: Beginning | None = None,
    named: Named | None = None,
    client: str | None = None,
    told: Snapshot | None = None,
    begun: Callable[[str], Awaitable[Any]] | None = None,
) -> Source:
    """Return the source of one job: with a ``beginning``, or one that is there as ``named``.

    ``client`` is what the gateway is called at an upstream that tells of jobs by who asked.
    """
    headers = ((b"x-generation-id", generation_id.encode()), *identity_headers(identity))
    job = Job(place.upstream, place.config, (*_ASKING, *headers), place.patience, told)
    if place.config.format == "comfyui":
        name = client if beginning is None else generation_id
        return ComfySource(job, place.name, name, beginning=beginning, prompt_id=None if named is None else named.id)
    if place.config.source == "call":
        assert beginning is not None, "only what another replica can find again is left to it"
        return Automatic1111Source(job, beginning, generation_id)
    if place.config.source == "websocket":
        assert beginning is not None, "only what another replica can find again is left to it"
        return SocketSource(job, beginning, screenshot_to_code())
    return JobSource(job, _follower(job), place.name, beginning=beginning, named=named, begun=begun)


_ASKING = ((b"accept-encoding", b"identity"),)


def _follower(job: Job) -> Follower:
    config = job.config
    if config.source == "stream":
        stream = partial(job_events, config.fields) if config.format == "jobs" else STREAM_DECODERS[config.format]
        return StreamFollower(job, stream)
    documents: Callable[[], PollDecoder]
    documents = partial(job_documents, config.fields) if config.format == "jobs" else POLL_DECODERS[config.format]
    return PushFollower(job, documents) if config.source == "push" else PollFollower(job, documents)
