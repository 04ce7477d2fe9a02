"""Generations of code: what they were made from, and the work that writes them."""

from __future__ import annotations

import asyncio
import base64
import copy
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from services.code.analysis import analyse, dominant_colours
from services.code.edits import apply_instruction, page_of_words
from services.code.elements import STRATEGIES, elements_of
from services.code.picture import Pixels, crop_url, decode_picture
from services.code.settings import CodeSettings
from services.code.tree import Node, hex_of
from services.code.vision import VisionModel
from services.code.writers import pieces_of, write
from services.jobs.board import Board
from services.jobs.job import Job
from services.storage.paths import new_id
from services.web.callers import Caller
from services.web.errors import NotFound
from services.web.streaming import paced

__all__ = ["Ask", "Workshop"]

_TRIES = 600_000
"""Pixels to which a larger screenshot is brought down before it is measured."""


@dataclass(slots=True)
class Ask:
    """What one generation is made from. ``page`` and ``codes`` come with the work."""

    stack: str
    strategies: list[str]
    picture: bytes | None = None
    words: str = ""
    own_images: bool = False
    page: Node | None = None
    base_code: str | None = None
    codes: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Workshop:
    """The queue, and the generations that can be refined: as many as the queue remembers."""

    def __init__(self, settings: CodeSettings) -> None:
        self.settings = settings
        self.board = Board("code", settings.workers, settings.queue_limit, settings.keep)
        self.vision = VisionModel(settings) if settings.base_url is not None else None
        self._asks: OrderedDict[str, Ask] = OrderedDict()

    async def open(self) -> None:
        """Nothing to be opened."""

    async def close(self) -> None:
        """Cancel the jobs, close the connections."""
        await self.board.close()
        if self.vision is not None:
            await self.vision.close()

    def start(self, caller: Caller, ask: Ask) -> Job:
        """Queue a generation. Raises ``Overloaded``."""
        self.board.room()
        variants = [{"index": index, "strategy": name} for index, name in enumerate(ask.strategies)]
        model = self.settings.model if self.vision else "layout-1"
        details = {"code_stack": ask.stack, "model": model, "variants": variants}
        job = Job(new_id("gen", time.time()), caller.user, details)
        self._asks[job.id] = ask
        limit = self.settings.keep + self.settings.workers + self.settings.queue_limit
        while len(self._asks) > limit:
            self._asks.popitem(last=False)
        return self.board.submit(job, lambda running: self._work(running, ask))

    def find(self, caller: Caller, item_id: str) -> tuple[Job, Ask]:
        """A generation that is remembered. Raises ``NotFound``."""
        job, ask = self.board.get(item_id), self._asks.get(item_id)
        if job is None or ask is None or not caller.may_see(job.owner):
            raise NotFound("There is no such generation (any more).", "id")
        return job, ask

    def document(self, job: Job) -> dict[str, Any]:
        """What the status endpoint shows; the code as far as it was written."""
        ask = self._asks.get(job.id)
        document = job.document() | dict(job.result or {})
        if ask is not None and "code" not in document:
            document["partial"] = [{"index": index, "code": code} for index, code in sorted(ask.codes.items())]
        return document

    def code(self, job: Job, index: int) -> str:
        """A variant as far as it is written."""
        ask = self._asks.get(job.id)
        return "" if ask is None else ask.codes.get(index, "")

    def forget(self, job: Job) -> None:
        """Cancel what runs, and remember the generation no longer."""
        self.board.cancel(job)
        self.board.forget(job)
        self._asks.pop(job.id, None)

    async def _work(self, job: Job, ask: Ask) -> Mapping[str, Any]:
        start = time.monotonic()
        facts: dict[str, Any] = {}
        if self.vision is None:
            facts = await self.board.in_thread(job, self._measure, job, ask)
        job.publish("progress", stage="writing", percent=30.0)
        try:
            async with asyncio.TaskGroup() as group:
                for index, strategy in enumerate(ask.strategies):
                    group.create_task(self._write(job, ask, index, strategy))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        codes = [{"index": index, "strategy": ask.strategies[index], "code": ask.codes[index]} for index in ask.codes]
        milliseconds = round((time.monotonic() - start) * 1000)
        codes.sort(key=lambda entry: int(str(entry["index"])))
        return {"code": ask.codes[0], "variants": codes, "notes": ask.notes, "milliseconds": milliseconds, **facts}

    def _measure(self, job: Job, ask: Ask) -> dict[str, Any]:
        """In a worker thread: from the picture or the words to the page."""
        facts: dict[str, Any] = {}
        if ask.page is None and ask.picture is not None:
            job.report("progress", stage="reading", percent=5.0)
            pixels, _ = _brought_down(decode_picture(ask.picture))
            job.report("progress", stage="measuring", percent=10.0)
            ask.page = analyse(pixels, job.check)
            facts["colors"] = [{"color": hex_of(colour), "share": round(share, 4)}
                               for colour, share in dominant_colours(pixels)]  # fmt: skip
            if ask.own_images:
                _put_pictures_in(ask.page, pixels)
        elif ask.page is None:
            ask.page, ask.notes = page_of_words(ask.words)
            return {"layout": ask.page.outline()}
        if ask.words:
            ask.notes = [
                f"Not done, as it was not understood: {part}" for part in apply_instruction(ask.page, ask.words)
            ]
        ask.picture = None  # The page is what is kept of it.
        return facts | {"layout": ask.page.outline()}

    async def _write(self, job: Job, ask: Ask, index: int, strategy: str) -> None:
        job.publish("variant_started", variantIndex=index, strategy=strategy)
        ask.codes[index] = ""
        async with aclosing(self._pieces(ask, strategy)) as pieces:
            async for piece in pieces:
                ask.codes[index] += piece
                job.publish("chunk", variantIndex=index, text=piece)
        job.publish("variant_completed", variantIndex=index, characters=len(ask.codes[index]))

    def _pieces(self, ask: Ask, strategy: str) -> AsyncGenerator[str]:
        if self.vision is not None:
            return self.vision.write(_words_for_model(ask, strategy), _url(ask.picture))
        assert ask.page is not None, "measured before"
        code = write(elements_of(ask.page, strategy), ask.stack, ask.notes)
        return paced(pieces_of(code), self.settings.pieces_per_second)

    def changed(self, caller: Caller, code: str, instruction: str, stack: str | None) -> Ask:
        """What a change of ``code`` is made from: without a model only code that was written here is understood.

        Raises ``NotFound`` for code that is not known (any more).
        """
        for item_id, ask in reversed(self._asks.items()):
            job = self.board.get(item_id)
            if job is None or not caller.may_see(job.owner):
                continue
            for variant, written in ask.codes.items():
                if written == code:
                    return self.refined(ask, variant, instruction, stack)
        if self.vision is None:
            raise NotFound("files: this code was not written here, or is not remembered any more.", "files")
        return Ask(stack or "html_tailwind", [next(iter(STRATEGIES))], words=instruction, base_code=code)

    def refined(self, ask: Ask, variant: int, instruction: str, stack: str | None) -> Ask:
        """What a refinement of a variant is made from. Raises ``NotFound``."""
        if variant >= len(ask.strategies):
            raise NotFound("There is no such variant.", "variant")
        return Ask(
            stack or ask.stack, [ask.strategies[variant]], ask.picture if self.vision else None, instruction,
            page=copy.deepcopy(ask.page), base_code=ask.codes.get(variant),
        )  # fmt: skip


def _brought_down(pixels: Pixels) -> tuple[Pixels, int]:
    """Every nth pixel of a screenshot that is large for what it shows, so that its layout has a page's size."""
    step = 1
    while pixels.shape[1] // step > 2000 and pixels.shape[0] * pixels.shape[1] // (step * step) > _TRIES * 4:
        step += 1
    return pixels[::step, ::step], step


def _put_pictures_in(page: Node, pixels: Pixels) -> None:
    """The screenshot's own pictures: the first dozen, small."""
    found = [node for node in page.walk() if node.kind == "image" and node.source == "picture"]
    for node in found[:12]:
        node.source = crop_url(pixels, node.box.x, node.box.y, node.box.width, node.box.height)


def _url(picture: bytes | None) -> str | None:
    if picture is None:
        return None
    begins = {b"\x89P": "png", b"\xff\xd8": "jpeg", b"RI": "webp"}
    return f"data:image/{begins.get(picture[:2], 'gif')};base64,{base64.b64encode(picture).decode()}"


def _words_for_model(ask: Ask, strategy: str) -> str:
    """The prompt of the vision model."""
    words = [f"Write one complete file in the stack {ask.stack}. Answer with the code alone."]
    if ask.picture is not None:
        words.append("Reproduce the page of the screenshot exactly, with its texts, colours, sizes and spacing.")
    words.append(f"Layout: {STRATEGIES[strategy]}.")
    if ask.base_code is not None:
        words.append(f"Change the code below as is asked and keep all else.\n\n{ask.base_code}\n")
    if ask.words:
        words.append(f"Asked: {ask.words}")
    return "\n".join(words)
