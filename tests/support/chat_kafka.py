"""The preset chat-kafka with its services before a broker, and what its clients do first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.config import load_config
from services.chat.app import train_built_in_model
from services.chatui.app import create_app as create_chatui
from services.chatui.settings import ChatUiSettings
from services.organisations.app import create_app as create_organisations
from services.organisations.settings import OrganisationsSettings
from tests.support.applications import serving
from tests.support.gateway import running

__all__ = ["PERSON", "UNLIKE_KAFKA", "ChatKafka", "auth", "chat_kafka", "signed_up"]

PERSON = {"email": "test@example.com", "password": "securepass123"}
UNLIKE_KAFKA = {"CHAT_SERVICE_KAFKA_IDEMPOTENT": "false", "CHAT_SERVICE_KAFKA_FETCH_WAIT": "0.02"}
"""For the embedded broker."""


@dataclass
class ChatKafka:
    """Where it is reached."""

    http: httpx.AsyncClient
    """The gateway."""
    chat_url: str


@contextlib.asynccontextmanager
async def chat_kafka(address: str, folder: Path, **variables: str) -> AsyncIterator[ChatKafka]:
    """Run it; it is given when chats are answered."""
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": address,
        "CHAT_SERVICE_KAFKA_BOOTSTRAP_SERVERS": address,
        "GATEWAY_LOG_LEVEL": "ERROR",
        "LOG_LEVEL": "ERROR",
        **variables,
    }
    chat = ChatUiSettings.from_environ(
        environ, database_url=f"sqlite:///{folder}/chat.db", tokens_per_second=0, max_tokens=40, topic_partitions=1
    )
    own = OrganisationsSettings.from_environ(
        environ, database_url=f"sqlite:///{folder}/o.db", hash_memory=1024, topic_partitions=1
    )
    async with (
        serving(create_organisations(own)) as auth_url,
        serving(create_chatui(chat, train_built_in_model())) as chat_url,
        running(load_config(None, environ | {"AUTH_SERVICE_URL": auth_url}, preset="chat-kafka")) as gate,
        httpx.AsyncClient(base_url=gate.http, timeout=60) as http,
    ):
        async with asyncio.timeout(60):
            while (await http.get("/api/chat/settings/")).status_code != 200:
                await asyncio.sleep(0.1)
        yield ChatKafka(http, chat_url)


async def signed_up(http: httpx.AsyncClient, email: str = PERSON["email"]) -> dict[str, Any]:
    answer = await http.post("/v1/client/sign-up", json={**PERSON, "email": email})
    assert answer.status_code == 201
    told: dict[str, Any] = answer.json()
    return told


def auth(told: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {told['access_token']}"}
