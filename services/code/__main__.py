"""``python -m services.code``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.code.app import create_app
from services.code.settings import CodeSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.code --port 8003 &
  curl http://127.0.0.1:8003/api/v1/code/upload-and-generate -F file=@screenshot.png -F variants=2 -F sync=true
  curl -N http://127.0.0.1:8003/api/v1/code/generate --json '{"prompt": "a page with a button", "stream": true}'

environment:
  CODE_PIECES_PER_SECOND   pace of each variant (default 200; 0 is as fast as possible)
  CODE_BASE_URL            let a vision model of this OpenAI-compatible server write
  CODE_API_KEY             the key for that server; goes with CODE_BASE_URL
  CODE_MODEL               its model (default gpt-4o)
  CODE_WORKERS             generations at once (default 1)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "A screenshot-to-code service that measures a picture's layout; it needs no network."
    parser = argument_parser("code", description, _EPILOG, 8003)
    parser.add_argument("--pieces-per-second", type=float, metavar="N", help="overrides CODE_PIECES_PER_SECOND")
    parser.add_argument("--workers", type=int, metavar="N", help="overrides CODE_WORKERS")
    serve(parser, arguments, CodeSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
