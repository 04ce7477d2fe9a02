"""The endpoints of served formats that are switched on."""

from __future__ import annotations

import time

from fastapi import APIRouter

from app.auth.api_keys import ApiKeys
from app.config import Config
from app.generations.responses import Responses
from app.generations.served import Served
from app.generations.service import Generations
from app.http.api.caller import Caller
from app.http.api.served.answers import Answers
from app.http.api.served.caller import ServedCaller
from app.http.api.served.chat import chat_router
from app.http.api.served.images import images_router
from app.http.api.served.responses import responses_router
from app.http.api.served.ui_chat import ui_chat_router
from app.http.served_stream import ServedStreams
from app.streams.broker import Keys

__all__ = ["served_routers"]


def served_routers(
    config: Config, generations: Generations, keys: Keys, streams: ServedStreams, caller: Caller
) -> list[APIRouter]:
    """Return the routes of those that are HTTP."""
    served = Served(config.served, config.generations)
    answers = Answers(generations, served, streams, ServedCaller(caller, ApiKeys(config.served.keys)))
    routers = []
    if config.served.openai.enabled:
        responses = Responses(generations, keys, served)
        routers += [chat_router(answers, time.time), images_router(answers, time.time)]
        routers.append(responses_router(answers, responses))
    if config.served.vercel.enabled:
        routers.append(ui_chat_router(answers, keys))
    return routers
