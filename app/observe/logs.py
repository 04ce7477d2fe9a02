"""Logs: one line or one JSON object an event, and no secret in any of them.

Every event, the gateway's own and those of libraries, passes :func:`redact` last, after exceptions became text. It
hides values by their name (``authorization``, ``ticket``, ``password`` …) and, wherever they stand, what looks like a
JSON Web Token, a ``Bearer`` credential, a secret in a query or a password in a URL. Prompts are hidden by name too.
uvicorn's line for each request and each socket is dropped: it holds the whole query.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import Processor

from app.observe.sampling import SampledRecords

__all__ = ["REDACTED", "configure_logging", "redact", "redact_text"]

REDACTED = "[redacted]"
_DEEPEST = 6
"""Values nested deeper are not logged."""

_SECRET_NAMES = frozenset(
    {
        "authorization",
        "proxy_authorization",
        "token",
        "jwt",
        "ticket",
        "cookie",
        "set_cookie",
        "password",
        "passwd",
        "secret",
        "api_key",
        "apikey",
        "x_api_key",
        "access_key",
        "private_key",
        "credential",
        "credentials",
        "sec_websocket_protocol",
        "prompt",
        "messages",
    }
)
_SECRET_ENDINGS = ("_token", "_secret", "_password", "_api_key", "_private_key")

_JWT = r"\bey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(bearer)([ .]+)[^\s,;\"']+", re.IGNORECASE), rf"\1\2{REDACTED}"),
    (re.compile(r"\b(basic) +[A-Za-z0-9+/=]{8,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    (re.compile(_JWT), REDACTED),
    (re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]+(?=@)"), REDACTED),
    (
        re.compile(r"\b((?:access_|refresh_|id_)?token|ticket|api_?key|secret|password)=[^\s&\"'#]+", re.IGNORECASE),
        rf"\1={REDACTED}",
    ),
)


def configure_logging(
    level: str = "info", style: Literal["console", "json"] = "console", stream: TextIO | None = None
) -> None:
    """Send all logs of this process to ``stream`` (standard error when None), in one style, from ``level`` up."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, _renderer(style, stream)],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    _quiet_libraries()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide what is secret in an event. A structlog processor."""
    for name, value in event.items():
        event[name] = REDACTED if _is_secret(name) else _redacted(value)
    return event


def redact_text(text: str) -> str:
    """Return ``text`` without what looks like a credential."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _redacted(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, bytes | bytearray | memoryview):
        return redact_text(bytes(value).decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {
            _redacted(name, depth + 1): REDACTED if _is_secret(name) else _redacted(below, depth + 1)
            for name, below in value.items()
        }
    if isinstance(value, tuple) and len(value) == 2 and _is_secret(value[0]):
        return [_redacted(value[0], depth + 1), REDACTED]  # a header
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item, depth + 1) for item in value]
    return redact_text(str(value) if isinstance(value, Exception) else repr(value))


def _is_secret(name: Any) -> bool:
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str):
        return False
    name = name.lower().replace("-", "_")
    return name in _SECRET_NAMES or name.endswith(_SECRET_ENDINGS)


def _renderer(style: Literal["console", "json"], stream: TextIO) -> Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    # A plain traceback: the fancy one shows local variables, which hold tokens.
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
    )


def _quiet_libraries() -> None:
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.access").disabled = True
    errors = logging.getLogger("uvicorn.error")
    # At debug level websockets writes every frame there, with the texts and tokens in it.
    errors.setLevel(max(logging.INFO, logging.getLogger().level))
    if not any(isinstance(other, _NoSocketLines) for other in errors.filters):
        errors.addFilter(_NoSocketLines())
        errors.addFilter(SampledRecords())
    # httpx logs each request's URL with its query, websockets each frame, alembic each part of itself.
    for name in ("httpx", "httpcore", "websockets", "asyncio", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _NoSocketLines(logging.Filter):
    """Drops uvicorn's lines about a socket that was accepted or refused, and the two about its opening and closing."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        return '"WebSocket %s"' not in message and message not in {"connection open", "connection closed"}
