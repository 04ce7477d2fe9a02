"""Files that grow or change while they are written, told by what changed.

A service that writes code often sends the whole file again for every few characters, so that its bytes grow with the
square of the file. Here each file has a revision; the first is told whole, the next ones as one splice: from where, how
many characters go, which come in their place. Positions count Unicode code points, as receipts do, so that no splice
can fall into the middle of a character.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from app.generations.events import FilePatch, FileReceipt, FileSet

__all__ = ["Files"]


class Files:
    """The files of one generation as they stand: written by a decoder, or followed by who reads its events."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, str]] = {}

    @property
    def texts(self) -> Mapping[str, str]:
        """All texts by path, in the order in which the files began."""
        return {path: text for path, (_, text) in self._files.items()}

    def copy(self) -> Files:
        """Return the same, to go on by itself."""
        other = Files()
        other._files = dict(self._files)
        return other

    def write(self, path: str, text: str) -> FileSet | FilePatch | None:
        """Make ``text`` the whole of ``path`` and return the event that says so; None when nothing changes."""
        rev, old = self._files.get(path, (0, ""))
        if rev and text == old:
            return None
        self._files[path] = (rev + 1, text)
        start = _common_start(old, text)
        kept = _common_end(old, text, start)
        if not rev or start + kept == 0:
            return FileSet(path, rev + 1, text)
        return FilePatch(path, rev, rev + 1, start, len(old) - start - kept, text[start : len(text) - kept])

    def append(self, path: str, text: str) -> FileSet | FilePatch | None:
        """Put ``text`` at the end of ``path`` and return the event that says so; None when it is empty."""
        rev, old = self._files.get(path, (0, ""))
        if not text:
            return None
        self._files[path] = (rev + 1, old + text)
        return FilePatch(path, rev, rev + 1, len(old), 0, text) if rev else FileSet(path, 1, text)

    def follow(self, event: FileSet | FilePatch) -> bool:
        """Take the next event of a file; False, and no change, for a patch that does not fit what is there."""
        if isinstance(event, FileSet):
            self._files[event.path] = (event.rev, event.text)
            return True
        rev, old = self._files.get(event.path, (0, ""))
        if rev != event.base_rev or not 0 <= event.start <= event.start + event.removed <= len(old):
            return False
        text = old[: event.start] + event.inserted + old[event.start + event.removed :]
        self._files[event.path] = (event.rev, text)
        return True

    def receipts(self) -> dict[str, FileReceipt] | None:
        """Return the proof of each file as it stands; None when there are none."""
        if not self._files:
            return None
        return {
            path: FileReceipt(rev, len(text), hashlib.sha256(text.encode()).hexdigest())
            for path, (rev, text) in self._files.items()
        }


def _common_start(a: str, b: str) -> int:
    """Return the length of the longest common beginning: by halving, for comparing slices is fast and a loop is not."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_end(a: str, b: str, start: int) -> int:
    """Return the length of the longest common end that does not reach into the first ``start`` characters of either."""
    low, high = 0, min(len(a), len(b)) - start
    while low < high:
        middle = (low + high + 1) // 2
        if a[len(a) - middle : len(a) - low] == b[len(b) - middle : len(b) - low]:
            low = middle
        else:
            high = middle - 1
    return low
