"""``python -m services.<name>``: a service on a port."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn

from services.web.settings import ServiceSettings, SettingsError

__all__ = ["argument_parser", "serve"]


def argument_parser(name: str, description: str, epilog: str, port: int) -> argparse.ArgumentParser:
    """A parser of ``--host`` and ``--port``, to which a service adds its own arguments."""
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=port, help="port to listen on (default: %(default)s)")
    return parser


def serve(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    settings_type: type[ServiceSettings],
    create_app: Callable[[Any], Any],
) -> None:
    """Run until interrupted. Arguments beside host and port override the settings of their names.

    Exits with status 2 and a sentence when a setting is wrong.
    """
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    try:
        known = {name: value for name, value in options.items() if name in settings_type.model_fields}
        settings = settings_type.from_environ(os.environ, **known)
    except SettingsError as error:
        parser.error(str(error))
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        timeout_graceful_shutdown=5,
    )
