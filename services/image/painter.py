"""The work of an image job: paint in a thread, report each step, keep the result."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.image.prompt import plan_of
from services.image.render import png_of, render
from services.image.requests import MODEL, GenerateRequest, size_of
from services.image.settings import ImageSettings
from services.jobs.job import Job
from services.storage.archive import Item
from services.studio.studio import Studio
from services.web.errors import Invalid

__all__ = ["Painting"]

_PREVIEW_SIDE = 256


@dataclass(frozen=True, slots=True)
class _Picture:
    seed: int
    scene: str
    style: str
    png: bytes


class Painting:
    """One generation's work. ``pictures`` holds the PNGs once it is done. Raises ``Invalid``.

    ``partials`` steps are reported whole, as events ``partial_image``, which no newer one replaces.
    """

    def __init__(self, studio: Studio, settings: ImageSettings, asked: GenerateRequest, partials: int = 0) -> None:
        self.size = size_of(asked.size, settings.max_side)
        if asked.num_images > settings.max_images:
            raise Invalid(f"num_images: at most {settings.max_images} pictures at once.", "num_images")
        self.pictures: list[bytes] = []
        self._studio = studio
        self._asked = asked
        self._steps = max(asked.steps or settings.steps, partials + 1)
        self._partials = {round(self._steps * (index + 1) / (partials + 1)) for index in range(partials)}
        self._seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed

    @property
    def details(self) -> dict[str, Any]:
        """What the status page shows from the start."""
        size = f"{self.size[0]}x{self.size[1]}"
        return {"model": MODEL, "provider": "tidegate", "size": size, "seed": self._seed, "steps": self._steps}

    async def work(self, job: Job) -> Mapping[str, Any]:
        """Paint, keep, and return the result."""
        start = time.monotonic()
        made = await self._studio.board.in_thread(job, self._paint_all, job)
        names = ["image/original.png", *(f"image/original-{index + 1}.png" for index in range(1, len(made)))]
        artifacts = [
            {"index": index, "name": name, "mime": "image/png", "width": self.size[0], "height": self.size[1],
             "bytes": len(picture.png), "seed": picture.seed, "scene": picture.scene, "style": picture.style}
            for index, (name, picture) in enumerate(zip(names, made, strict=True))
        ]  # fmt: skip
        record = {
            **self.details,
            "created": int(job.created),
            "units": len(made),
            "milliseconds": round((time.monotonic() - start) * 1000),
            "artifacts": artifacts,
        }
        files = {name: picture.png for name, picture in zip(names, made, strict=True)}
        asked = self._asked.model_dump(exclude_none=True, exclude={"callback_url", "wait", "stream"})
        await self._studio.keep(job, Item(job.id, job.owner, asked, record, files))
        self.pictures = [picture.png for picture in made]
        return {"artifacts": artifacts, "milliseconds": record["milliseconds"], "units": len(made)}

    def _paint_all(self, job: Job) -> list[_Picture]:
        return [self._paint(job, index) for index in range(self._asked.num_images)]

    def _paint(self, job: Job, index: int) -> _Picture:
        """In a worker thread."""
        plan = plan_of(self._asked.prompt, self._seed + index, self._asked.scene, self._asked.style)
        start, pictures = time.monotonic(), self._asked.num_images

        def band_done(share: float) -> None:
            job.check()
            whole = (index + share) / pictures
            elapsed = time.monotonic() - start
            left = elapsed * (pictures - index - share) / share
            stage = "done" if whole == 1.0 else "painting"
            job.report("progress", stage=stage, step=done, total=self._steps * pictures,
                       percent=round(99 * whole, 1), eta_ms=round(left * 1000))  # fmt: skip

        done = index * self._steps
        png = b""
        for step in render(plan, self.size, self._steps, band_done):
            done = index * self._steps + step.number
            if step.number == step.total:
                png = png_of(step.pixels)
            else:
                preview = base64.b64encode(png_of(step.pixels, _PREVIEW_SIDE)).decode()
                job.report("preview", index=index, step=done, mime="image/png", data=preview)
                if step.number in self._partials:
                    whole = base64.b64encode(png_of(step.pixels)).decode()
                    job.report("partial_image", index=sorted(self._partials).index(step.number), data=whole)
        return _Picture(self._seed + index, plan.scene, plan.style, png)
