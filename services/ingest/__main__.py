"""``python -m services.ingest``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.ingest.app import create_app
from services.ingest.settings import IngestSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.ingest --port 8001 &
  curl 'http://127.0.0.1:8001/api/v1/ingest/upload?wait=true' -H 'X-Company-ID: acme' -F file=@README.md
  curl http://127.0.0.1:8001/api/v1/ingest/documents -H 'X-Company-ID: acme'

environment:
  INGEST_LIBRARY      the folder of databases and files (default out/library), which services.query reads, too
  INGEST_DATABASE_URL postgresql://… for documents and passages, in place of the databases in the folder
  INGEST_BODY_LIMIT   bytes of an upload (default 26214400)
  INGEST_WORKERS      documents that are read at once (default 2)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "Takes companies' documents in: text, Markdown, HTML and PDF, cut into passages that can be searched."
    parser = argument_parser("ingest", description, _EPILOG, 8001)
    parser.add_argument("--library", metavar="FOLDER", help="overrides INGEST_LIBRARY")
    parser.add_argument("--database-url", metavar="URL", help="overrides INGEST_DATABASE_URL")
    parser.add_argument("--workers", type=int, metavar="N", help="overrides INGEST_WORKERS")
    serve(parser, arguments, IngestSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
