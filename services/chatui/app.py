"""The chat UI service as an ASGI application, by HTTP and over Kafka alike."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from starlette.requests import Request

from services.chat.app import train_built_in_model
from services.chat.model import LanguageModel
from services.chat.sampling import Generation, Sampling
from services.chatui.settings import ChatUiSettings
from services.chatui.shelf import Shelf, id_of
from services.chatui.tables import CONVERSATIONS, DOCUMENTS, MESSAGES, OUTBOX, PROMPTS
from services.database.database import Database
from services.topics.outbox import Outbox
from services.users.tokens import Tokens
from services.web.application import service_application
from services.web.errors import Unauthorized
from services.web.streaming import EventStream, paced

__all__ = ["create_app"]

_DESCRIPTION = """Keeps conversations, messages, prompts and documents, and answers in a stream. Over Kafka each group
of endpoints has a topic."""
_CONFIG = ConfigDict(extra="ignore", frozen=True)
_TITLE_WORDS = 6
Text = Field(min_length=1, max_length=200_000, pattern=r"^[^\x00]*$")
Short = Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")
Ident = Field(validation_alias=AliasChoices("conversation_id", "conversationId", "conversation"), max_length=64)


class ConversationRequest(BaseModel):
    model_config = _CONFIG
    topic: str = Field("", max_length=255, pattern=r"^[^\x00]*$", validation_alias=AliasChoices("topic", "title"))


class MessageRequest(BaseModel):
    model_config = _CONFIG
    conversation_id: str = Ident
    message: str = Text
    is_bot: bool = False


class MessageChange(BaseModel):
    model_config = _CONFIG
    message: str = Text


class PromptRequest(BaseModel):
    model_config = _CONFIG
    title: str = Field("", max_length=255, pattern=r"^[^\x00]*$")
    prompt: str = Text


class DocumentRequest(BaseModel):
    model_config = _CONFIG
    title: str = Short
    content: str = Text


class ChatRequest(BaseModel):
    model_config = _CONFIG
    conversation_id: str | None = Field(
        None, validation_alias=AliasChoices("conversation_id", "conversationId", "conversation"), max_length=64
    )
    message: str = Text


class TitleRequest(BaseModel):
    model_config = _CONFIG
    conversation_id: str = Ident


class ImportedMessage(BaseModel):
    model_config = _CONFIG
    role: str = Field("user", max_length=20)
    content: str = Text


class ImportedConversation(BaseModel):
    model_config = _CONFIG
    topic: str = Field(
        "", max_length=255, pattern=r"^[^\x00]*$", validation_alias=AliasChoices("conversation_topic", "topic", "title")
    )
    messages: list[ImportedMessage] = Field(max_length=1000)


class ImportRequest(BaseModel):
    model_config = _CONFIG
    imports: list[ImportedConversation] = Field(max_length=100)


class _Parts:
    """What the routes need."""

    def __init__(self, settings: ChatUiSettings, model: LanguageModel) -> None:
        self.settings, self.model = settings, model
        self.database = Database(settings.database_url, "chatui", Path(__file__).parent / "migrations")
        self.outbox = Outbox(self.database, OUTBOX, _publisher(settings), settings.outbox_limit)
        self._tokens = Tokens(settings.jwt_secret.get_secret_value(), 1, 1, None, None)
        shelves = {"conversation": CONVERSATIONS, "message": MESSAGES, "prompt": PROMPTS, "document": DOCUMENTS}
        self.conversations, self.messages, self.prompts, self.documents = (
            Shelf(self.database, self.outbox, table, kind, settings.events_topic) for kind, table in shelves.items()
        )

    def user(self, request: Request) -> str:
        """Who asks, by his access token. Raises ``Unauthorized``."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Send your access token: Authorization: Bearer …")
        return self._tokens.read_access(token.strip(), time.time()).user


def create_app(settings: ChatUiSettings | None = None, model: LanguageModel | None = None) -> FastAPI:
    """The service. Without ``settings``, the defaults: the environment is read by ``__main__`` alone."""
    settings = settings or ChatUiSettings()
    parts = _Parts(settings, model or train_built_in_model())
    bridge: Any = None

    async def start() -> None:
        nonlocal bridge
        await parts.outbox.start()
        if settings.kafka_servers:
            bridge = _bridge(app, settings)
            await bridge.start()

    async def stop() -> None:
        if bridge is not None:
            await bridge.close()
        await parts.outbox.close()
        await parts.database.close()

    def health() -> dict[str, Any]:
        told = {"service": "chatui", "outbox": parts.outbox.figures()}
        if bridge is None:
            return told
        return {**told, "kafka": "connected" if bridge.connected else "away", "requests": bridge.figures()}

    checks = {"database": parts.database.check}
    app = service_application("Tidegate chat UI", _DESCRIPTION, settings.body_limit, health, start, stop, checks)
    app.include_router(_kept(parts, parts.conversations, "conversations", ConversationRequest, ConversationRequest))
    app.include_router(_kept(parts, parts.prompts, "prompts", PromptRequest, PromptRequest))
    app.include_router(_kept(parts, parts.documents, "embedding_document", DocumentRequest, DocumentRequest))
    app.include_router(_kept(parts, parts.messages, "messages", MessageRequest, MessageChange))
    app.include_router(_chat(parts))
    return app


def _publisher(settings: ChatUiSettings) -> Any:
    if not settings.kafka_servers:
        return None
    from services.topics.producer import Producer  # noqa: PLC0415

    return Producer(settings.servers, "chatui", partitions=settings.topic_partitions)


def _bridge(app: Any, settings: ChatUiSettings) -> Any:
    from services.topics.bridge import Bridge, BridgeTopics  # noqa: PLC0415  (only who is asked over Kafka needs it)

    topics = BridgeTopics(
        settings.topics, [settings.ai_conversation_topic], settings.cancels_topic, settings.dead_letters_topic,
        settings.topic_partitions,
    )  # fmt: skip
    return Bridge(app, settings.servers, settings.group, topics, fetch_wait=settings.fetch_wait)


def _kept(parts: _Parts, shelf: Shelf, name: str, new: type[BaseModel], change: type[BaseModel]) -> APIRouter:
    """List, make, read, change and delete of one kind; all at once but of messages."""
    router = APIRouter(prefix=f"/api/chat/{name}", tags=[name])

    async def several(request: Request) -> list[dict[str, Any]]:
        user, query = parts.user(request), request.query_params
        asked = query.get("conversationId") or query.get("conversation_id")
        return await shelf.all(user, **({"conversation_id": asked} if name == "messages" and asked else {}))

    async def create(request: Request, asked: Any) -> dict[str, Any]:
        user = parts.user(request)
        if isinstance(asked, MessageRequest):
            await parts.conversations.get(user, asked.conversation_id)
        return await shelf.add(user, id_of(user, request.headers.get("x-correlation-id")), **asked.model_dump())

    async def delete_all(request: Request) -> Response:
        await shelf.remove(parts.user(request), None)
        return Response(status_code=204)

    async def read(request: Request, ident: str) -> dict[str, Any]:
        return await shelf.get(parts.user(request), ident)

    async def update(request: Request, ident: str, asked: Any) -> dict[str, Any]:
        return await shelf.change(parts.user(request), ident, **asked.model_dump())

    async def delete(request: Request, ident: str) -> Response:
        await shelf.remove(parts.user(request), ident)
        return Response(status_code=204)

    create.__annotations__["asked"], update.__annotations__["asked"] = new, change
    router.add_api_route("/", several, methods=["GET"])
    router.add_api_route("/", create, methods=["POST"], status_code=201)
    if name != "messages":
        router.add_api_route("/delete_all/", delete_all, methods=["DELETE"], status_code=204)
    router.add_api_route("/{ident}/", read, methods=["GET"])
    router.add_api_route("/{ident}/", update, methods=["PUT"])
    router.add_api_route("/{ident}/", delete, methods=["DELETE"], status_code=204)
    return router


def _chat(parts: _Parts) -> APIRouter:
    router = APIRouter(prefix="/api", tags=["chat"])

    @router.get("/chat/settings/")
    async def settings() -> dict[str, Any]:
        """What a page must know before anybody has signed in."""
        return {"model": "opticks", "max_tokens": parts.settings.max_tokens, "open_registration": True}

    @router.post("/conversation/", response_model=None)
    async def conversation(request: Request, asked: ChatRequest) -> Response:
        """Answers in server-sent events: `userMessageId`, `message` with `content`, and `done` with `messageId`."""
        user = parts.user(request)
        ident = id_of(user, request.headers.get("x-correlation-id"))
        if asked.conversation_id is None:
            told = await parts.conversations.add(user, ident, topic="")
        else:
            told = await parts.conversations.get(user, asked.conversation_id)
        before = await parts.messages.all(user, conversation_id=told["id"])
        mine = await parts.messages.add(
            user, id_of(user, ident + "user"), conversation_id=told["id"], message=asked.message, is_bot=False
        )
        texts = [message["message"] for message in reversed(before)] + [asked.message]
        return EventStream(
            _answer(parts, user, ident, told["id"], mine["id"], texts), {"content-type": "text/event-stream"}
        )

    @router.post("/gen_title/")
    async def title(request: Request, asked: TitleRequest) -> dict[str, Any]:
        """Names a conversation by what was asked first."""
        user = parts.user(request)
        messages = await parts.messages.all(user, conversation_id=asked.conversation_id)
        first = next((each["message"] for each in reversed(messages) if not each["is_bot"]), "New chat")
        words = first.split()
        text = " ".join(words[:_TITLE_WORDS])[:255] + (" …" if len(words) > _TITLE_WORDS else "")
        await parts.conversations.change(user, asked.conversation_id, topic=text[:255])
        return {"title": text}

    @router.post("/upload_conversations/", status_code=201)
    async def upload(request: Request, asked: ImportRequest) -> list[str]:
        """Takes conversations of another place; their new ids."""
        user = parts.user(request)
        root = id_of(user, request.headers.get("x-correlation-id"))
        made = []
        for number, imported in enumerate(asked.imports):
            told = await parts.conversations.add(user, id_of(user, f"{root}{number}"), topic=imported.topic)
            for place, message in enumerate(imported.messages):
                is_bot = message.role != "user"
                values = {"conversation_id": told["id"], "message": message.content, "is_bot": is_bot}
                await parts.messages.add(user, id_of(user, f"{root}{number}-{place}"), **values)
            made.append(told["id"])
        return made

    return router


async def _answer(
    parts: _Parts, user: str, ident: str, conversation: str, question: str, texts: list[str]
) -> AsyncGenerator[bytes]:
    yield _event("userMessageId", {"userMessageId": question, "conversationId": conversation})
    generation, said = Generation(parts.model, texts, Sampling(max_tokens=parts.settings.max_tokens)), ""
    async for piece in paced(generation, parts.settings.tokens_per_second):
        said += piece
        yield _event("message", {"content": piece})
    # Stored before it is said to be: what a client was told of is there.
    values = {"conversation_id": conversation, "message": said, "is_bot": True}
    kept = await parts.messages.add(user, id_of(user, ident + "bot"), **values)
    yield _event("done", {"messageId": kept["id"], "conversationId": conversation})


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
