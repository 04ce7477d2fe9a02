"""A preset's gateway with the reference services behind it, on real sockets in the test's own loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.config import load_config
from services.analytics.app import create_app as create_analytics
from services.analytics.settings import AnalyticsSettings
from services.chat.app import create_app as create_chat
from services.chat.settings import ChatSettings
from services.image.app import create_app as create_image
from services.image.settings import ImageSettings
from services.speech.app import create_app as create_speech
from services.speech.settings import SpeechSettings
from services.summarizer.app import create_app as create_summarizer
from services.summarizer.settings import SummarizerSettings
from services.users.app import create_app as create_users
from services.users.settings import UsersSettings
from tests.support.applications import serving
from tests.support.gateway import Gateway, running

__all__ = ["Places", "Platform", "platform"]

SECRET = "a-secret-of-this-test-that-is-long-enough"
KEY = "server-api-key"


@dataclass
class Platform:
    gateway: Gateway
    client: httpx.AsyncClient


@dataclass
class Places:
    """Where the services keep things."""

    users: str
    analytics: str
    images: str
    audios: str
    summaries: str

    @classmethod
    def below(cls, folder: Path) -> Places:
        databases = (f"sqlite:///{folder}/{name}.db" for name in ("users", "analytics"))
        return cls(*databases, *(str(folder / name) for name in ("images", "audios", "summaries")))


@asynccontextmanager
async def platform(
    preset: str, places: Places, variables: Mapping[str, str], **environ: str
) -> AsyncIterator[Platform]:
    """Run it. ``variables`` are the preset's names for the addresses of the services."""
    with socket.create_server(("127.0.0.1", 0)) as users_port:
        async with AsyncExitStack() as stack:
            image = ImageSettings(storage=places.images, jwt_secret=SECRET)
            speech = SpeechSettings(storage=places.audios, jwt_secret=SECRET)
            applications = {
                "chat": create_chat(ChatSettings(tokens_per_second=0)),
                "image": create_image(image),
                "speech": create_speech(speech),
                "summarizer": create_summarizer(SummarizerSettings(storage=places.summaries, jwt_secret=SECRET)),
                "analytics": create_analytics(AnalyticsSettings(database_url=places.analytics)),
            }
            known = {variables["users"]: f"http://127.0.0.1:{users_port.getsockname()[1]}"}
            for name, application in applications.items():
                if name in variables:
                    known[variables[name]] = await stack.enter_async_context(serving(application))
            known |= {"JWT_SECRET_KEY": SECRET, "LOG_LEVEL": "CRITICAL", "GATEWAY_SERVER_API__KEYS": f'["{KEY}"]'}
            known |= {"GATEWAY_EVENTS__FLUSH_INTERVAL": "0.05", "GATEWAY_EVENTS__MAX_BACKOFF": "0.5", **environ}
            gateway = await stack.enter_async_context(running(load_config(None, known, preset=preset)))
            users = UsersSettings(
                database_url=places.users, jwt_secret=SECRET, hash_memory=1024, gateway_url=gateway.http,
                gateway_key=KEY,
            )  # fmt: skip
            await stack.enter_async_context(serving(create_users(users), users_port))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=gateway.http, timeout=60))
            yield Platform(gateway, client)
