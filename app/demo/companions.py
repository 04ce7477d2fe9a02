"""The services that several systems have in common, made as a demo needs them.

What was made ends with the demo, unless the environment names a place for it. Nobody but this gateway knows the
services' ports, so that the roles that it hands on can be trusted; where clients know them, too, tokens alone are.
"""

from __future__ import annotations

from typing import Any

from app.demo.system import Companion, Surroundings

__all__ = ["analytics", "chat", "code", "image", "speech", "summarizer", "users"]

_PACE = 12.0
"""Tokens per second of answers: slow enough to see a connection break in the middle of one."""
_KEPT = ("obstore",)
_DATABASE = ("sqlalchemy", "aiosqlite", "alembic")


def _chat(around: Surroundings) -> Any:
    from services.chat.app import create_app  # noqa: PLC0415  (a demo imports the services that it has)
    from services.chat.settings import ChatSettings  # noqa: PLC0415

    paced = around.unless_set(ChatSettings.prefix, tokens_per_second=_PACE)
    return create_app(ChatSettings.from_environ(around.environ, **paced))


def _image(around: Surroundings) -> Any:
    from services.image.app import create_app  # noqa: PLC0415
    from services.image.settings import ImageSettings  # noqa: PLC0415

    return create_app(ImageSettings.from_environ(around.environ, **_kept(around, ImageSettings.prefix)))


def _code(around: Surroundings) -> Any:
    from services.code.app import create_app  # noqa: PLC0415
    from services.code.settings import CodeSettings  # noqa: PLC0415

    return create_app(CodeSettings.from_environ(around.environ))


def _speech(around: Surroundings) -> Any:
    from services.speech.app import create_app  # noqa: PLC0415
    from services.speech.settings import SpeechSettings  # noqa: PLC0415

    return create_app(SpeechSettings.from_environ(around.environ, **_kept(around, SpeechSettings.prefix)))


def _users(around: Surroundings) -> Any:
    from services.users.app import create_app  # noqa: PLC0415
    from services.users.settings import UsersSettings  # noqa: PLC0415

    told = around.unless_set(
        UsersSettings.prefix, database_url=f"sqlite:///{around.folder}/users.db", jwt_secret=around.secret
    )
    if not (around.environ.get("USERS_GATEWAY_URL") or around.environ.get("USERS_GATEWAY_KEY")):
        told |= {"gateway_url": around.gateway_url, "gateway_key": around.key}
    return create_app(UsersSettings.from_environ(around.environ, **told))


def _analytics(around: Surroundings) -> Any:
    from services.analytics.app import create_app  # noqa: PLC0415
    from services.analytics.settings import AnalyticsSettings  # noqa: PLC0415

    told = around.unless_set(AnalyticsSettings.prefix, database_url=f"sqlite:///{around.folder}/analytics.db")
    return create_app(AnalyticsSettings.from_environ(around.environ, **told))


def _summarizer(around: Surroundings) -> Any:
    from services.summarizer.app import create_app  # noqa: PLC0415
    from services.summarizer.settings import SummarizerSettings  # noqa: PLC0415

    return create_app(SummarizerSettings.from_environ(around.environ, **_kept(around, SummarizerSettings.prefix)))


def _kept(around: Surroundings, prefix: str) -> dict[str, object]:
    """What a service that keeps what it makes is told."""
    folder = str(around.folder / prefix.lower().rstrip("_"))
    trusted = {"jwt_secret": around.secret} if around.direct else {"trust_roles": True}
    return around.unless_set(prefix, public_url=around.gateway_url, storage=folder, **trusted)


chat = Companion("chat completions, from a small model of its own", _chat)
image = Companion("pictures from words", _image, needs=("numpy", "PIL", *_KEPT))
code = Companion("code from screenshots", _code, needs=("numpy", "PIL", "python_multipart"))
speech = Companion("speech from text", _speech, needs=("espeakng_loader", "lameenc", *_KEPT))
summarizer = Companion("summaries of texts", _summarizer, needs=_KEPT)
analytics = Companion("who used what, when", _analytics, needs=_DATABASE)
users = Companion("accounts and sessions", _users, needs=("pwdlib", *_DATABASE))
