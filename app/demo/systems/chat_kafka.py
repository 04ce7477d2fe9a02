"""The demo of the preset ``chat-kafka``: accounts by HTTP, chats over a broker of its own."""

from __future__ import annotations

from typing import Any

from app.demo.kafka import BOOTSTRAP, broker
from app.demo.system import Companion, Surroundings, System

__all__ = ["SYSTEM"]

_DATABASE = ("sqlalchemy", "aiosqlite", "alembic")


def _organisations(around: Surroundings) -> Any:
    from services.organisations.app import create_app  # noqa: PLC0415  (a demo imports the services that it has)
    from services.organisations.settings import OrganisationsSettings  # noqa: PLC0415

    told = around.unless_set(
        OrganisationsSettings.prefix, database_url=f"sqlite:///{around.folder}/organisations.db"
    ) | {"kafka_servers": around.environ.get(BOOTSTRAP, "")}
    return create_app(OrganisationsSettings.from_environ(around.environ, **told))


def _chatui(around: Surroundings) -> Any:
    from services.chatui.app import create_app  # noqa: PLC0415
    from services.chatui.settings import ChatUiSettings  # noqa: PLC0415

    told = around.unless_set(ChatUiSettings.prefix, database_url=f"sqlite:///{around.folder}/chatui.db")
    return create_app(ChatUiSettings.from_environ(around.environ, **told))


SYSTEM = System(
    {
        "auth": Companion("accounts and organisations", _organisations, needs=("pwdlib", "aiokafka", *_DATABASE)),
        "chat-ui": Companion("conversations and answers, over Kafka", _chatui, needs=("aiokafka", *_DATABASE)),
    },
    try_first=(
        'curl {url}/v1/client/sign-up --json \'{{"email": "ann@example.com", "password": "password123"}}\'',
        "curl {url}/api/chat/settings/",
    ),
    backdrop=broker,
)
