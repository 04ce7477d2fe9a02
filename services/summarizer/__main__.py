"""``python -m services.summarizer``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.summarizer.app import create_app
from services.summarizer.settings import SummarizerSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.summarizer --port 8004 &
  curl http://127.0.0.1:8004/summarize --json '{"text": "A long text. It has many sentences.", "sentences": 1}'

environment:
  SUMMARIZER_STORAGE    a folder (default out/summaries), or s3://bucket/prefix
  SUMMARIZER_BASE_URL   an OpenAI-compatible server that writes instead, with SUMMARIZER_API_KEY and SUMMARIZER_MODEL
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "A summarizer: the sentences that say most of a text, in several languages; it needs no network."
    parser = argument_parser("summarizer", description, _EPILOG, 8004)
    parser.add_argument("--storage", metavar="FOLDER|URL", help="overrides SUMMARIZER_STORAGE")
    serve(parser, arguments, SummarizerSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
