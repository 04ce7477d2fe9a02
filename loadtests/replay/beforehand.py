"""What would make a run worthless, found before it begins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["refuse_silent", "refuse_unwritable"]

_PATIENCE = 5.0
"""Seconds for a server to take a connection."""
_PORTS = {"ws": 80, "wss": 443}


def refuse_silent(urls: Sequence[str]) -> None:
    """Raise :exc:`ValueError` if nobody listens at any of ``urls``. One of several may be yet to come."""
    why = ""
    for url in urls:
        parts = urlsplit(url)
        try:
            socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), _PATIENCE).close()
            return
        except OSError as error:
            why = why or error.strerror or type(error).__name__
    raise ValueError(f"nobody listens at {' or '.join(urls)} ({why}); start the gateway, or name it with --url")


def refuse_unwritable(files: Iterable[Path | None]) -> None:
    """Raise :exc:`ValueError` for one of ``files`` that could not be written after the run."""
    for file in files:
        if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
            raise ValueError(f"{file} cannot be written; name a file in a folder that is there")
