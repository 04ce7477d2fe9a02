"""``python -m services.chat``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.chat.app import create_app
from services.chat.settings import ChatSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.chat --port 8002 &
  curl -N http://127.0.0.1:8002/v1/chat/completions -H 'content-type: application/json' \\
    -d '{"stream": true, "messages": [{"role": "user", "content": "What is light?"}]}'

environment:
  CHAT_TOKENS_PER_SECOND   pace of a stream (default 50; 0 is as fast as possible)
  CHAT_BASE_URL            forward to this OpenAI-compatible server, for example https://api.example.com/v1
  CHAT_API_KEY             the key for that server; goes with CHAT_BASE_URL
  CHAT_MODEL               the model where a request names none
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "An OpenAI-compatible chat service with a small model of its own; it needs no network."
    parser = argument_parser("chat", description, _EPILOG, 8002)
    parser.add_argument("--tokens-per-second", type=float, metavar="N", help="overrides CHAT_TOKENS_PER_SECOND")
    serve(parser, arguments, ChatSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
