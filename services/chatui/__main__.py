"""``python -m services.chatui``: the service on a port, and behind Kafka where brokers are named."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.chatui.app import create_app
from services.chatui.settings import ChatUiSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  CHAT_SERVICE_KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python -m services.chatui --port 8003

environment:
  CHATUI_DATABASE_URL                    sqlite:///file (default sqlite:///out/chatui.db) or postgresql://…
  JWT_SECRET                             verifies tokens: the gateway's secret
  CHAT_SERVICE_KAFKA_BOOTSTRAP_SERVERS   brokers that requests come from; CHAT_UI_…_TOPIC name the topics
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    parser = argument_parser("chatui", "Keeps chats and answers them.", _EPILOG, 8003)
    parser.add_argument("--database-url", metavar="URL", help="overrides CHATUI_DATABASE_URL")
    serve(parser, arguments, ChatUiSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
