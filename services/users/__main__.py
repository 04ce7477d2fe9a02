"""``python -m services.users``: the service on a port."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from services.users.accounts import Accounts
from services.users.app import create_app, open_database
from services.users.settings import UsersSettings
from services.web.command import argument_parser, serve
from services.web.errors import ApiError
from services.web.settings import SettingsError

__all__ = ["main"]

_EPILOG = """\
example:
  python -m services.users --port 3000 &
  curl http://127.0.0.1:3000/auth/register --json '{"email": "test@example.com", "password": "password123"}'
  python -m services.users --grant-admin test@example.com

environment:
  USERS_DATABASE_URL   sqlite:///file (default sqlite:///out/users.db) or postgresql://user:password@host/name
  JWT_SECRET_KEY       the gateway's secret; also USERS_JWT_SECRET
  USERS_GATEWAY_URL    the gateway that closes the sockets of sessions that end, with USERS_GATEWAY_KEY
  USERS_ACCESS_MINUTES, USERS_REFRESH_DAYS   how long tokens live (default 15 and 30)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until interrupted. Exits with status 2 and a sentence when a setting is wrong."""
    description = "A users service: registers, signs in, refreshes with rotation, and signs out."
    parser = argument_parser("users", description, _EPILOG, 3000)
    parser.add_argument("--database-url", metavar="URL", help="overrides USERS_DATABASE_URL")
    parser.add_argument("--grant-admin", metavar="EMAIL", help="give an account the role admin, and end")
    asked = parser.parse_args(arguments)
    if asked.grant_admin is None:
        serve(parser, arguments, UsersSettings, create_app)
        return
    try:
        settings = UsersSettings.from_environ(os.environ, database_url=asked.database_url)
        found = asyncio.run(_grant(settings, asked.grant_admin))
    except (SettingsError, ApiError) as error:
        parser.error(str(error))
    if not found:
        parser.error(f"there is no account {asked.grant_admin}: register it first")
    sys.stdout.write(f"{asked.grant_admin} is an administrator from the next sign-in or refresh on.\n")


async def _grant(settings: UsersSettings, email: str) -> bool:
    database = open_database(settings)
    try:
        return await Accounts(database, settings.sessions_per_user).grant(email, "admin")
    finally:
        await database.close()


if __name__ == "__main__":
    main(sys.argv[1:])
