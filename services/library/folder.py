"""The folder of a library: the files of companies' documents, and what is on its way in.

A folder that goes away (a volume, a disk) shows at once, and one that is there without our mark is not ours, and is
left alone: a new one would hide the old one. All that fails then is ``Unavailable``.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from services.web.errors import Unavailable

__all__ = ["Folder", "library_unavailable"]

_MARK = "tidegate-library"


class Folder:
    """``place`` is absolute. The methods block: they are called in threads."""

    def __init__(self, place: str | Path) -> None:
        self.place = Path(place).absolute()
        self._made = False

    @property
    def shelves(self) -> Path:
        """Where SQLite's databases are, one of each company."""
        return self.place / "shelves"

    @property
    def incoming(self) -> Path:
        """Where uploads are written while they come."""
        return self.place / "incoming"

    def check(self) -> None:
        """Raise ``Unavailable`` unless the folder is there. The first call makes it, where there is nothing yet."""
        try:
            if not self._made:
                self._make()
            if not (self.place / _MARK).is_file() or not os.access(self.shelves, os.W_OK):
                raise library_unavailable()
        except OSError:
            raise library_unavailable() from None

    def file(self, shelf: str, document: str) -> Path:
        """Where a document's file is."""
        return self.place / "files" / shelf / document

    def holds(self, file: Path) -> bool:
        """Whether a file of it is there. Raises ``Unavailable``."""
        self.check()
        return file.is_file()

    def keep(self, path: Path, shelf: str, document: str) -> None:
        """Move a file to where it stays, and have that survive a loss of power. Raises ``Unavailable``."""
        kept = self.file(shelf, document)
        self.check()
        try:
            kept.parent.mkdir(mode=0o700, exist_ok=True)
            path.replace(kept)
            _sync(kept.parent)
        except OSError:
            raise library_unavailable() from None

    def forget(self, shelf: str, document: str) -> None:
        """Delete a document's file; one that is not there, or can't be reached, is left."""
        with suppress(OSError):
            self.file(shelf, document).unlink(missing_ok=True)

    def _make(self) -> None:
        """Make the folder; once made it is never made again, so that one that went away is missed."""
        for name in ("shelves", "files", "incoming"):
            (self.place / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.place / _MARK).touch()
        self._made = True


def library_unavailable() -> Unavailable:
    """Return what callers are told."""
    return Unavailable("The documents cannot be reached just now. Try again in a moment.")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
