"""What a start would stumble over, found before anything is started: files, folders and addresses that cannot be used.

A configuration is read without a look at the disk. What it names there is looked at here, by ``tidegate check`` and
ahead of each start.
"""

from __future__ import annotations

import os
from pathlib import Path

from app.composition.broker import create_topology
from app.composition.events import refuse_unusable_sinks
from app.config import Config
from app.errors import ConfigError
from app.http.upstreams.tls import client_context

__all__ = ["refuse_unusable"]


def refuse_unusable(config: Config) -> None:
    """Raise :exc:`~app.errors.ConfigError` for the first thing of ``config`` that cannot be used on this machine.

    Nothing is connected to, and nothing is made.
    """
    if config.broker.shared:
        create_topology(config.broker)
    for name, upstream in config.upstreams.items():
        client_context(name, upstream)
    refuse_unusable_sinks(config)
    recorder = config.recorder
    if recorder.folder and (recorder.users or recorder.sessions or recorder.share):
        _refuse_unwritable(Path(recorder.folder))


def _refuse_unwritable(folder: Path) -> None:
    """A folder that is not there yet is made later: then the nearest one above it counts."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"recorder.folder: nothing can be written to {folder}. Name a folder that can be written to.")
