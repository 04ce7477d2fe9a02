"""``python -m services.analytics``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.analytics.app import create_app
from services.analytics.settings import AnalyticsSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.analytics --port 8005 &
  curl http://127.0.0.1:8005/events --json '{"id": "1", "service": "llm_chat", "status": "success",
                                             "timestamp": "2026-01-31T12:00:00Z", "latency_ms": 12}'
  curl http://127.0.0.1:8005/analytics/system

environment:
  ANALYTICS_DATABASE_URL   sqlite:///file (default sqlite:///out/analytics.db) or postgresql://user:password@host/name
  ANALYTICS_INGEST_KEY     what the gateway must send as X-API-Key with its events
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "An analytics service: takes the gateway's events and tells what was used."
    parser = argument_parser("analytics", description, _EPILOG, 8005)
    parser.add_argument("--database-url", metavar="URL", help="overrides ANALYTICS_DATABASE_URL")
    serve(parser, arguments, AnalyticsSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
