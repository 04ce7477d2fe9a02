"""Generations, with what they need of the others."""

from __future__ import annotations

from app.composition.limiting import Limiting
from app.composition.observing import Observing
from app.config import Config
from app.generations.service import Generations
from app.http.transport import HttpTransport
from app.streams.backend import Backend
from app.streams.control import Replicas
from app.streams.hub import Hub

__all__ = ["create_generations"]


def create_generations(
    config: Config,
    hub: Hub,
    backend: Backend,
    replicas: Replicas,
    transport: HttpTransport,
    observing: Observing,
    limiting: Limiting,
) -> Generations:
    """Return the service."""
    return Generations(
        config.generations,
        config.routes,
        hub,
        backend.broker,
        backend.ledger,
        backend.succession,
        backend.keys,
        replicas,
        transport,
        observing.generations,
        limiting.limits(config),
        shared=config.broker.shared,
        tracing=observing.tracing,
    )
