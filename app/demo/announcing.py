"""What a demo says when it starts: what there is, where, and what to try first."""

from __future__ import annotations

import sys
from pathlib import Path

from app.config import Config
from app.demo.system import Surroundings, System

__all__ = ["announcement"]


def announcement(preset: str, system: System, config: Config, around: Surroundings) -> str:
    """Return the lines, for a terminal."""
    rows = [("gateway", around.gateway_url, "documentation at /docs, health at /health/ready")]
    rows += [(name, url, system.companions[name].what) for name, url in around.urls.items()]
    rows += [(name, "not here", why) for name, why in _absent(system, config, around).items()]
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    table = [f"  {name:{wide[0]}}  {url:{wide[1]}}  {what}" for name, url, what in rows]
    commands = [f"  {command.format(url=around.gateway_url, tidegate=_program())}" for command in system.try_first]
    first = ["Try first, in another terminal:", *commands] if commands else []
    return "\n".join([f"The preset {preset}, with what it needs:", *table, *first, "Ctrl-C ends it all."])


def _absent(system: System, config: Config, around: Surroundings) -> dict[str, str]:
    """Why each upstream that has no companion has none."""
    absent = {}
    for name in {**config.upstreams, **system.companions}:
        if name in around.urls:
            continue
        companion = system.companions.get(name)
        upstream = config.upstreams.get(name)
        if upstream is not None and upstream.set_up:
            over = "over Kafka, at " if upstream.over_kafka else "yours, at "
            absent[name] = over + ", ".join(upstream.targets or upstream.kafka.bootstrap_servers)
        elif companion is not None and companion.missing():
            absent[name] = f"install it: pip install 'tidegate[{companion.extra}]'"
        else:
            absent[name] = "its routes are answered 501"
    return absent


def _program() -> str:
    """How this program was called, for a shell in the same folder."""
    path = Path(sys.argv[0])
    return str(path) if path.name == "tidegate" else f"{sys.executable} -m app.cli"
