"""Answers from the built-in model."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.chat.errors import ModelNotFound, Overloaded
from services.chat.meter import Meter
from services.chat.model import LanguageModel
from services.chat.protocol import DONE, Answer, ChatMessage, ChatRequest, count_prompt, parse_json, parse_request
from services.chat.sampling import Generation
from services.chat.sessions import SessionStore
from services.chat.settings import BUILT_IN_MODEL, ChatSettings
from services.web.streaming import EventStream, paced, until_disconnect

__all__ = ["LocalBackend"]

Remember = Callable[[str], None]
"""Stores the exchange with this answer, if the request is part of a session."""


class LocalBackend:
    """Generates answers in this process."""

    mode = "local"

    def __init__(self, settings: ChatSettings, sessions: SessionStore, model: LanguageModel) -> None:
        self.model: str | None = settings.model or BUILT_IN_MODEL
        self.meter = Meter()
        self._name = settings.model or BUILT_IN_MODEL
        self._settings = settings
        self._sessions = sessions
        self._language = model
        self._started = int(time.time())

    async def models(self, request: Request) -> Response:
        """The one model there is."""
        model = {"id": self._name, "object": "model", "created": self._started, "owned_by": "tidegate"}
        return JSONResponse({"object": "list", "data": [model]})

    async def complete(self, request: Request, body: bytes, user: str) -> Response:
        """Answer a completion request, streamed or whole. Raises ``ApiError``."""
        chat = parse_request(parse_json(body), self._settings.max_messages)
        if chat.model not in (None, self._name):
            raise ModelNotFound(f"The model {chat.model!r} does not exist; there is {self._name!r}.", "model")
        if self.meter.running >= self._settings.max_running:
            raise Overloaded("Too many generations are running. Try again in a moment.")
        history = self._sessions.history(user, chat.session_id) if chat.session_id else ()
        prompt = [*history, *chat.messages]
        generation = Generation(
            self._language, [message.content for message in prompt], chat.sampling(self._settings.max_tokens)
        )
        answer = Answer(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=self._name,
            prompt_tokens=count_prompt(prompt),
            session_id=chat.session_id,
            include_usage=chat.include_usage,
        )
        remember = self._remembering(chat, user)
        if chat.stream:
            return EventStream(self._events(generation, answer, remember))
        whole = await until_disconnect(request.receive, self._whole(generation, answer, remember))
        return Response(status_code=499) if whole is None else JSONResponse(whole)

    async def close(self) -> None:
        """Nothing is held open."""

    def _remembering(self, chat: ChatRequest, user: str) -> Remember:
        def remember(text: str) -> None:
            if chat.session_id:
                exchange = [*chat.messages, ChatMessage(role="assistant", content=text)]
                self._sessions.append(user, chat.session_id, exchange, time.time())

        return remember

    async def _events(self, generation: Generation, answer: Answer, remember: Remember) -> AsyncGenerator[bytes]:
        said: list[str] = []
        try:
            with self.meter.one_more():
                yield answer.chunk({"role": "assistant", "content": ""})
                async with aclosing(paced(self._metered(generation), self._settings.tokens_per_second)) as pieces:
                    async for piece in pieces:
                        said.append(piece)
                        if piece:
                            yield answer.chunk({"content": piece})
        finally:
            # An answer that was cut off by its reader is remembered as far as it came: that is what the reader saw.
            if said:
                remember("".join(said))
        yield answer.chunk({}, generation.finish_reason)
        if answer.include_usage:
            yield answer.usage_chunk(generation.tokens)
        yield DONE

    async def _whole(self, generation: Generation, answer: Answer, remember: Remember) -> dict[str, Any]:
        with self.meter.one_more():
            text = "".join([piece async for piece in paced(self._metered(generation), 0)])
        remember(text)
        assert generation.finish_reason is not None, "an exhausted generation has said why it ended"
        return answer.whole(text, generation.finish_reason, generation.tokens)

    def _metered(self, generation: Generation) -> Iterator[str]:
        """The generation's pieces, counted as they are produced."""
        before = 0
        for piece in generation:
            self.meter.produced += generation.tokens - before
            before = generation.tokens
            yield piece
