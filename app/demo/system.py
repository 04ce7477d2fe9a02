"""What a demo consists of: companions behind the gateway, what has to run before them, and what they are told.

A system is one preset with its services. Each service is a :class:`Companion`, by the name of the upstream whose place
it takes. Nothing is imported before it is wanted: a demo needs the packages of its own services alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Backdrop", "Companion", "Surroundings", "System"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known before any companion is made."""

    folder: Path
    """For files; it goes when the demo ends."""
    environ: Mapping[str, str]
    """The environment, with what the backdrop and the system's variables add to it."""
    gateway_url: str
    """Where clients reach the gateway."""
    urls: Mapping[str, str]
    """Where each companion will listen, by its name: ``http://127.0.0.1:port``."""
    secret: str
    """With what tokens are signed that the gateway takes."""
    key: str
    """A key of the gateway's server API, which this demo alone knows."""
    direct: bool = False
    """Whether clients may reach the companions: then who asks is known by his token alone."""

    def unless_set(self, prefix: str, **defaults: object) -> dict[str, object]:
        """Those of ``defaults`` that the environment says nothing about as ``<prefix><NAME>``."""
        return {name: value for name, value in defaults.items() if not self.environ.get(prefix + name.upper())}


@dataclass(frozen=True, slots=True)
class Companion:
    """A service. ``create`` imports it and returns its ASGI application."""

    what: str
    """What it does, in a few words."""
    create: Callable[[Surroundings], Any]
    needs: tuple[str, ...] = ()
    """Modules that have to be installed."""
    extra: str = "services"
    """The extra that brings them."""

    def missing(self) -> list[str]:
        """Return which of the modules are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


Backdrop = Callable[[Path, Mapping[str, str]], contextlib.AbstractContextManager[Mapping[str, str]]]
"""Starts what must run before the services, as a broker, with a folder for files and the environment; gives
variables that lead to it."""


def _nothing(_: Path, __: Mapping[str, str]) -> contextlib.AbstractContextManager[Mapping[str, str]]:
    return contextlib.nullcontext({})


def _no_variables(_: Surroundings) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class System:
    """A preset's demo."""

    companions: Mapping[str, Companion]
    """By the names of their upstreams; a name that is no upstream's is a service that only others reach."""
    try_first: tuple[str, ...] = ()
    """Commands to begin with, for a shell; ``{url}`` is the gateway's address, ``{tidegate}`` the program."""
    backdrop: Backdrop = field(default=_nothing)
    variables: Callable[[Surroundings], Mapping[str, str]] = field(default=_no_variables)
    """Variables for the preset and the services; those that the environment has already stay as they are."""
    direct: bool = False
    """Clients reach the companions, too: each listens where the preset has its upstream, if that is on this machine
    and nobody else is there."""
