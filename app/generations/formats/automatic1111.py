"""The progress of the Stable Diffusion web UI (AUTOMATIC1111 and those with its API), polled; and its result.

``GET /sdapi/v1/progress`` tells of whatever runs, with ``state``; ``POST /internal/progress`` of one task, and that it
is ``completed``. The images come as the answer to the request that began the work, a document with ``images``. That is
the terminal, for ``progress`` falls back to 0 when the work is over, and a task that is no longer remembered looks like
one that never was.

Source: the web UI's ``modules/api/models.py`` and ``modules/progress.py``.
"""

from __future__ import annotations

from typing import Any

from app.generations.formats.answer import Answer, number
from app.generations.formats.decoders import JsonDocuments

__all__ = ["Automatic1111Reader", "automatic1111"]

_MAX_SECONDS = 1e6


def automatic1111() -> JsonDocuments:
    """Return a decoder of one task's documents."""
    return JsonDocuments(Automatic1111Reader())


class Automatic1111Reader:
    """What a document becomes.

    - ``progress`` (0 to 1) with ``eta_relative`` or ``eta`` (seconds) and ``state``: progress, a step being a sampling
      step; before it has begun: nothing, or queued for a task that waits;
    - ``current_image`` or ``live_preview``: a preview of result 0, once for each picture;
    - ``images``: an artifact each, and completed; ``completed`` of a task alone: progress of 100 %;
    - ``error`` or ``detail``: failed.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._shown: str | None = None
        self._queued = False

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a document."""
        images = value.get("images")
        if isinstance(images, list):
            for index, image in enumerate(images):
                answer.artifact(index, _mime(image), data=image)
            answer.complete()
        elif value.get("error") or value.get("detail"):
            answer.refuse(value if value.get("error") or value.get("message") else {"detail": value["detail"]})
        elif "progress" in value or "active" in value:
            self._tell(value, answer)
        else:
            answer.unknown += 1

    def done(self, answer: Answer) -> None:
        """Documents have no ``[DONE]``."""
        raise AssertionError("documents have no [DONE]")

    def _tell(self, value: dict[str, Any], answer: Answer) -> None:
        if value.get("queued") is True and value.get("active") is not True:
            if not self._queued:
                self._queued = True
                answer.queued(0)
            return
        if value.get("completed") is True:
            answer.progress("completed", percent=100)
            return
        share = number(value.get("progress"))
        seconds = number(value.get("eta_relative") if "eta_relative" in value else value.get("eta"))
        state = value.get("state")
        state = state if isinstance(state, dict) else {}
        if share:
            eta = seconds * 1000 if seconds is not None and 0 < seconds < _MAX_SECONDS else None
            job = state.get("job")
            answer.progress(
                job or value.get("textinfo") or "sampling",
                state.get("sampling_step"),
                state.get("sampling_steps"),
                100 * share,
                eta,
            )
        self._show(value, answer)

    def _show(self, value: dict[str, Any], answer: Answer) -> None:
        image = value.get("current_image") or value.get("live_preview")
        if not isinstance(image, str) or image == self._shown:
            return
        self._shown = image
        head, comma, data = image.partition(",")
        if comma and head.startswith("data:") and head.endswith(";base64"):
            answer.preview(0, head[len("data:") : -len(";base64")], data=data)
        else:
            answer.preview(0, _mime(image), data=image)


def _mime(image: Any) -> str:
    """Return the type of a picture in base 64 by how it begins; these services say it nowhere."""
    start = image[:8] if isinstance(image, str) else ""
    return "image/jpeg" if start.startswith("/9j/") else "image/webp" if start.startswith("UklGR") else "image/png"
