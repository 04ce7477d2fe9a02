"""Two changes of one file as one, where that can be said without the file itself. Pure.

A splice puts new text in the place of old. The next one can be a part of it when what it takes away touches what the
first one put there: then both together take away one stretch of the text before them, and put one in its place.
"""

from __future__ import annotations

from app.generations.events import FilePatch, FileSet

__all__ = ["joined"]


def joined(first: FileSet | FilePatch, then: FileSet | FilePatch) -> FileSet | FilePatch | None:
    """Return the one change that stands for both, in their order; None where it would need the text between them.

    ``first`` and ``then`` are of one file. A patch that does not follow ``first`` (by its revision, or beyond the
    text's end) is not joined.
    """
    if isinstance(then, FileSet):
        return then
    if then.base_rev != first.rev:
        return None
    if isinstance(first, FileSet):
        text, end = first.text, then.start + then.removed
        if end > len(text):
            return None
        return FileSet(first.path, then.rev, text[: then.start] + then.inserted + text[end:])
    middle = first.inserted
    start, end = then.start - first.start, then.start - first.start + then.removed
    if end < 0 or start > len(middle):
        return None
    inserted = middle[: max(0, start)] + then.inserted + middle[end:]
    before, behind = max(0, -start), max(0, end - len(middle))
    removed = first.removed + before + behind
    return FilePatch(first.path, first.base_rev, then.rev, first.start - before, removed, inserted)
