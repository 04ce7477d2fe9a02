"""``python -m services.organisations``: the service on a port."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.organisations.app import create_app
from services.organisations.settings import OrganisationsSettings
from services.web.command import argument_parser, serve

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.organisations --port 8001 &
  curl http://127.0.0.1:8001/v1/client/sign-up --json '{"email": "test@example.com", "password": "password123"}'

environment:
  DATABASE_URL              sqlite:///file (default sqlite:///out/organisations.db) or postgresql://…
  JWT_SECRET                the gateway's secret
  INTERNAL_SERVICE_KEY      what services show below /auth
  KAFKA_BOOTSTRAP_SERVERS   where events go; none by default
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    parser = argument_parser("organisations", "Signs in users who belong to organisations.", _EPILOG, 8001)
    parser.add_argument("--database-url", metavar="URL", help="overrides DATABASE_URL")
    serve(parser, arguments, OrganisationsSettings, create_app)


if __name__ == "__main__":
    main(sys.argv[1:])
