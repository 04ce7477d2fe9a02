"""Reading the configuration again while the gateway runs.

Some settings can be changed between two requests, others are built into what runs. The new file is judged as a whole,
as at a start; then what can change is taken from it, and what cannot is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.config.faults import faults_of
from app.config.model import Config
from app.config.schema import Key, dotted
from app.config.section import Section
from app.errors import ConfigError

__all__ = ["Reloaded", "Source"]

_AUTH_STAYS = frozenset({"ticket_ttl", "revocation_ttl", "revocation_limit", "revocation_check"})
_GENERATIONS_STAY = frozenset({"lease", "retention"})
_SERVER_CHANGES = frozenset(
    {"allowed_origins", "body_limit", "cors", "security_headers", "trace_share", "trusted_hosts"}
)


def _changes_at_once(key: Key) -> bool:
    match key:
        case ("routes" | "upstreams" | "server_api" | "limits" | "served", *_):
            return True
        case ("auth", name, *_):
            return name not in _AUTH_STAYS
        case ("generations", name, *_):
            return name not in _GENERATIONS_STAY
        case ("server", name, *_):
            return name in _SERVER_CHANGES
    return False


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What comes of reading it again."""

    config: Config
    """What runs, with all of the new one that can be changed at once."""
    needs_restart: tuple[str, ...]
    """Keys that differ from those of the start and stay as they are."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration came from. Can be pickled if ``load`` can."""

    load: Callable[[], Config]
    """Reads it. Raises :exc:`~app.errors.ConfigError`."""
    started: Config
    """What it said at the start."""

    def reload(self, running: Config) -> Reloaded:
        """Read again, over what is ``running``. Raises :exc:`~app.errors.ConfigError`."""
        fresh = self.load()
        merged = _merged(running, fresh)
        try:
            # What stays may forbid what changes: a production gateway does not take the development secret.
            config = Config.model_validate({name: getattr(merged, name) for name in Config.model_fields})
        except ValidationError as error:
            faults = [
                f"the configuration with what needs a restart: {dotted(key)} {what}" for key, what in faults_of(error)
            ]
            raise ConfigError("\n".join(faults)) from None
        stays = tuple(dotted(key) for key in _differences(self.started, fresh) if not _changes_at_once(key))
        return Reloaded(config, stays)


def _merged(running: Any, fresh: Any, key: Key = ()) -> Any:
    """Return ``running`` with what can be changed from ``fresh``."""
    updates: dict[str, Any] = {}
    for name in type(running).model_fields:
        here: Key = (*key, name)
        mine, other = getattr(running, name), getattr(fresh, name)
        if _changes_at_once(here):
            updates[name] = other
        elif isinstance(mine, Section):
            updates[name] = _merged(mine, other, here)
    return running.model_copy(update=updates)


def _differences(one: Any, other: Any, key: Key = ()) -> Iterator[Key]:
    for name in type(one).model_fields:
        here, mine, theirs = (*key, name), getattr(one, name), getattr(other, name)
        if isinstance(mine, Section) and isinstance(theirs, Section):
            yield from _differences(mine, theirs, here)
        elif mine != theirs:
            yield here
