"""What a generation begins from: the files of one that has completed, which its owner wants changed.

They are given to the upstream with its input, so that it needs no memory of its own, and any replica can do it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from app.errors import BadRequest
from app.generations.lifecycle import State
from app.generations.receipt import Snapshot

if TYPE_CHECKING:
    from app.generations.requests import StartRequest

__all__ = ["Origin", "parse_origin", "with_files"]

_MAX_PATHS = 64
_MAX_PATH = 512


@dataclass(frozen=True, slots=True)
class Origin:
    """A completed generation; ``paths`` of its files, None for all."""

    generation_id: str
    paths: tuple[str, ...] | None = None

    def files(self, snapshot: Snapshot) -> dict[str, str]:
        """Return the texts by path. Raises :exc:`~app.errors.BadRequest` where there is none."""
        if snapshot.status is not State.COMPLETED:
            raise BadRequest(f"from: that generation is {snapshot.status.value}; it must be completed.")
        texts = snapshot.files.texts
        missing = [path for path in self.paths or () if path not in texts]
        if missing or not texts:
            raise BadRequest("from: that generation has no such files." if missing else "from: it has no files.")
        return {path: texts[path] for path in self.paths or texts}


def parse_origin(value: Any) -> Origin | None:
    """Read ``from`` of a start. Raises :exc:`~app.errors.BadRequest`."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not isinstance(value.get("generation_id"), str):
        raise BadRequest('from must be an object, for example {"generation_id": "gen_…"}.')
    paths = value.get("paths")
    if paths is None:
        return Origin(value["generation_id"])
    named = isinstance(paths, list) and 0 < len(paths) <= _MAX_PATHS
    if not named or not all(isinstance(path, str) and len(path) <= _MAX_PATH for path in paths):
        raise BadRequest(f"from.paths must be a list of 1 to {_MAX_PATHS} texts.")
    return Origin(value["generation_id"], tuple(dict.fromkeys(paths)))


class _Known(Protocol):
    @property
    def snapshot(self) -> Snapshot:
        """What its events have said."""


async def with_files(request: StartRequest, read: Callable[[str], Awaitable[_Known]]) -> StartRequest:
    """Return ``request`` with the files that it begins from in its input, as ``files``.

    ``read`` looks up the caller's own generations; what it raises is raised.
    """
    if request.origin is None:
        return request
    if "files" in request.input:
        raise BadRequest("input.files are those of the generation that from names: leave them out.")
    files = request.origin.files((await read(request.origin.generation_id)).snapshot)
    return replace(request, input={**request.input, "files": files})
