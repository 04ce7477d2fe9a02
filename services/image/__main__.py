"""``python -m services.image``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.image.app import create_app
from services.image.settings import ImageSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.image --port 8000 &
  curl http://127.0.0.1:8000/image/generate --json '{"prompt": "sunset over mountains", "size": "512x512", "seed": 7}'
  curl -N http://127.0.0.1:8000/image/generate --json '{"prompt": "a purple galaxy", "stream": true}'

environment:
  IMAGE_STORAGE         a folder (default out/images), or s3://bucket/prefix
  IMAGE_PUBLIC_URL      where clients reach the service: the beginning of its links
  IMAGE_SIGNING_KEY     signs links; without it they end with the process
  IMAGE_INTERNAL_KEY    opens /admin/images, as a bearer token
  IMAGE_WEBHOOK_HOSTS   hosts that callback_url may name, with IMAGE_WEBHOOK_SECRET
  IMAGE_WORKERS         pictures at once (default 1)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "An image service that paints step by step what a prompt's words suggest; it needs no network."
    parser = argument_parser("image", description, _EPILOG, 8000)
    parser.add_argument("--storage", metavar="FOLDER|URL", help="overrides IMAGE_STORAGE")
    parser.add_argument("--workers", type=int, metavar="N", help="overrides IMAGE_WORKERS")
    serve(parser, arguments, ImageSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
