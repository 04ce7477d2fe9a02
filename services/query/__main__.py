"""``python -m services.query``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.query.app import create_app
from services.query.settings import QuerySettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.query --port 8002 &
  curl http://127.0.0.1:8002/api/v1/query/ask -H 'X-Company-ID: acme' --json '{"query": "What is Tidegate?"}'
  curl -N http://127.0.0.1:8002/api/v1/query/ask -H 'X-Company-ID: acme' --json '{"query": "…", "stream": true}'

environment:
  QUERY_LIBRARY    the folder that services.ingest writes (default out/library)
  QUERY_DATABASE_URL  postgresql://…, where services.ingest has one
  QUERY_BASE_URL   an OpenAI-compatible server that writes the answers, with QUERY_API_KEY and QUERY_MODEL;
                   without it answers are made of the documents' own sentences
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "Answers questions from companies' documents, with citations; it needs no network."
    parser = argument_parser("query", description, _EPILOG, 8002)
    parser.add_argument("--library", metavar="FOLDER", help="overrides QUERY_LIBRARY")
    parser.add_argument("--database-url", metavar="URL", help="overrides QUERY_DATABASE_URL")
    serve(parser, arguments, QuerySettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
