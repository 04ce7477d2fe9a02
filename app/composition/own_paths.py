"""Where the gateway answers by itself, as its configuration has it."""

from __future__ import annotations

from app.config import Config
from app.http.own_paths import OWN_PATHS, SERVER_API_PATHS, OwnPaths

__all__ = ["CODE_PATH", "own_paths"]

CODE_PATH = "/generate-code"
"""A socket of a served format."""
_OPENAI_PATHS = (
    "/v1/chat/completions",
    "/v1/chat/completions/*",
    "/v1/images/generations",
    "/v1/models",
    "/v1/models/*",
    "/v1/responses",
    "/v1/responses/*",
)
_CHAT_PATHS = ("/api/chat", "/api/chat/*")


def own_paths(config: Config) -> OwnPaths:
    """Return the paths that only a route which names them takes from the gateway."""
    server_api = SERVER_API_PATHS if config.server_api.keys else ()
    health = tuple(each for path in config.server.health.paths for each in (path, f"{path}/*"))
    return OwnPaths(OWN_PATHS + server_api + health + _served_paths(config))


def _served_paths(config: Config) -> tuple[str, ...]:
    served = config.served
    openai = _OPENAI_PATHS if served.openai.enabled else ()
    chat = _CHAT_PATHS if served.vercel.enabled else ()
    return openai + chat + ((CODE_PATH,) if served.code.enabled else ())
