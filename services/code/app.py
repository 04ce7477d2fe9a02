"""The code service as an ASGI application."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, File, Form, Header, Query, Request, UploadFile, WebSocket
from starlette.responses import JSONResponse, Response

from services.code.elements import STRATEGIES
from services.code.picture import check_picture, data_url_bytes
from services.code.requests import GenerateRequest, RefineRequest, Stack
from services.code.settings import CodeSettings
from services.code.socket import serve_socket
from services.code.workshop import Ask, Workshop
from services.code.writers import STACKS
from services.jobs.job import Job
from services.web.application import service_application
from services.web.callers import caller_of
from services.web.errors import Invalid, NotFound, TooLarge
from services.web.streaming import EventStream, until_disconnect

__all__ = ["create_app"]

_PREFIX = "/api/v1/code"
_DESCRIPTION = """Measures the layout of a screenshot and writes it as HTML, React or Vue, in variants that differ.

No letters are read: texts have the right place, size and length, not the words. With `CODE_BASE_URL` and
`CODE_API_KEY` a vision model writes instead."""


def create_app(settings: CodeSettings | None = None) -> FastAPI:
    """The code service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or CodeSettings()
    workshop = Workshop(settings)

    def health() -> dict[str, Any]:
        mode = "local" if workshop.vision is None else "forward"
        return {"service": "code", "mode": mode, **workshop.board.health()}

    app = service_application("Tidegate code", _DESCRIPTION, settings.body_limit, health, workshop.open, workshop.close)
    app.include_router(_generating(workshop, settings))
    app.include_router(_generations(workshop))

    @app.websocket("/generate-code")
    async def generate_code(socket: WebSocket) -> None:
        await serve_socket(workshop, socket)

    return app


def _generating(workshop: Workshop, settings: CodeSettings) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["generate"])

    @router.post("/generate", response_model=None)
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        """From a screenshot as a data URL, or from words alone. 202, unless ``sync`` or ``stream`` is true."""
        if asked.files:
            ask = _changed(workshop, request, asked)
            return await _answer(workshop, request, ask, wait=asked.wait, stream=asked.stream)
        if asked.image is None and not (asked.prompt or "").strip():
            raise Invalid("image: send a screenshot, or a prompt.", "image")
        updated = asked.base_code if asked.generation_type == "update" else None
        if updated and settings.base_url is None and asked.image is None:
            raise Invalid("Without a vision model, changes go by POST /api/v1/code/refine/{id}.", "generation_type")
        picture = None if asked.image is None else data_url_bytes(asked.image, settings.image_bytes)
        ask = _ask(settings, picture, asked.prompt, asked.code_stack, asked.variants, asked.should_generate_images)
        ask.strategies = _strategies(asked.variant, asked.variants)
        ask.base_code = updated
        return await _answer(workshop, request, ask, wait=asked.wait, stream=asked.stream)

    @router.post("/upload-and-generate", response_model=None)
    async def upload(
        request: Request,
        file: Annotated[UploadFile, File(description="PNG, JPEG, WebP or GIF")],
        code_stack: Annotated[Stack, Form()] = "html_tailwind",
        prompt: Annotated[str | None, Form(max_length=4000)] = None,
        variants: Annotated[int, Form(ge=1, le=8)] = 1,
        should_generate_images: Annotated[bool, Form()] = False,
        sync: Annotated[bool, Form()] = False,
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        """The same with an uploaded file; what it is, its content says and not its name."""
        picture = await file.read(settings.image_bytes + 1)
        if len(picture) > settings.image_bytes:
            raise TooLarge(f"file has at most {settings.image_bytes} bytes.", "file")
        ask = _ask(settings, picture, prompt, code_stack, variants, should_generate_images, "file")
        return await _answer(workshop, request, ask, wait=sync, stream=stream)

    @router.post("/refine/{item_id}", response_model=None)
    async def refine(request: Request, item_id: str, asked: RefineRequest) -> Response:
        """A new generation from a variant of an ended one, changed as the instruction says.

        Rules do it, such as "make the header blue", "add a button saying Buy", "remove the footer", "center the
        title", "dark mode"; what they do not understand comes back in ``notes`` and as a comment in the code.
        """
        job, ask = workshop.find(caller_of(request), item_id)
        if job.status != "completed":
            raise NotFound("This generation has no code to refine: it is " + job.status + ".", "id")
        refined = workshop.refined(ask, asked.variant, asked.instruction, asked.code_stack)
        return await _answer(workshop, request, refined, wait=asked.wait, stream=asked.stream)

    return router


def _changed(workshop: Workshop, request: Request, asked: GenerateRequest) -> Ask:
    """Code that came back to be changed. Raises ``Invalid``, ``NotFound``."""
    instruction = (asked.prompt or "").strip()
    if not instruction:
        raise Invalid("prompt: say what shall be changed.", "prompt")
    code = next(iter((asked.files or {}).values()))
    stack = asked.code_stack if "code_stack" in asked.model_fields_set else None
    return workshop.changed(caller_of(request), code, instruction, stack)


def _ask(
    settings: CodeSettings, picture: bytes | None, prompt: str | None, stack: str, variants: int, images: bool,
    field: str = "image",
) -> Ask:  # fmt: skip
    if variants > settings.max_variants:
        raise Invalid(f"variants: at most {settings.max_variants}.", "variants")
    if picture is not None:
        check_picture(picture, settings.image_pixels, field)
    return Ask(stack, _strategies(0, variants), picture, (prompt or "").strip(), images)


def _strategies(first: int, count: int) -> list[str]:
    """The names of so many, beginning anew after the last."""
    return [list(STRATEGIES)[index % len(STRATEGIES)] for index in range(first, first + count)]


async def _answer(workshop: Workshop, request: Request, ask: Ask, *, wait: bool, stream: bool) -> Response:
    job = workshop.start(caller_of(request), ask)
    if stream:
        return EventStream(job.follow_sse(), {"x-generation-id": job.id}, release=lambda: _cancel(workshop, job))
    if not wait:
        place = f"{_PREFIX}/generation/{job.id}"
        return JSONResponse(workshop.document(job) | {"events_url": place + "/events"}, 202, {"location": place})
    try:
        if await until_disconnect(request.receive, job.wait()) is None:
            return Response(status_code=499)
    finally:
        workshop.board.cancel(job)
    status = {"completed": 200, "cancelled": 409}.get(job.status, job.error_status)
    return JSONResponse(workshop.document(job), status)


async def _cancel(workshop: Workshop, job: Job) -> None:
    """A client that leaves its stream wants the code no more; after the end this does nothing."""
    workshop.board.cancel(job)


def _generations(workshop: Workshop) -> APIRouter:
    router = APIRouter(prefix=_PREFIX, tags=["generations"])

    @router.get("/variants")
    async def variants(
        request: Request, generation_id: Annotated[str | None, Query(max_length=100)] = None
    ) -> dict[str, Any]:
        """The strategies and stacks there are; with ``generation_id`` the variants of that generation."""
        if generation_id is not None:
            job, _ = workshop.find(caller_of(request), generation_id)
            return {"generation_id": job.id, "variants": workshop.document(job)["variants"]}
        strategies = [{"strategy": name, "description": text} for name, text in STRATEGIES.items()]
        return {"variants": strategies, "stacks": list(STACKS), "max_variants": workshop.settings.max_variants}

    @router.get("/generation/{item_id}")
    async def document(request: Request, item_id: str) -> dict[str, Any]:
        """State, percent, and the code of each variant as far as it is written."""
        job, _ = workshop.find(caller_of(request), item_id)
        return workshop.document(job)

    @router.get("/generation/{item_id}/events", response_model=None)
    async def events(
        request: Request, item_id: str, last_event: Annotated[str | None, Header(alias="last-event-id")] = None
    ) -> Response:
        """Its events: ``chunk`` holds text to append to a variant. ``Last-Event-ID`` goes on where a reader stood."""
        job, _ = workshop.find(caller_of(request), item_id)
        after = int(last_event) if last_event and last_event.isdecimal() and len(last_event) < 10 else 0
        return EventStream(job.follow_sse(after))

    @router.delete("/generation/{item_id}")
    async def delete(request: Request, item_id: str) -> dict[str, Any]:
        """Cancels what runs, forgets what has ended."""
        job, _ = workshop.find(caller_of(request), item_id)
        status = "deleted" if job.ended else "cancelled"
        workshop.forget(job)
        await job.wait()
        return {"id": item_id, "status": status, "deleted": True}

    return router
