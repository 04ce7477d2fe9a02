"""Which kind of generation answers which name of a model, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.config import GenerationsConfig, ServedConfig
from app.errors import BadRequest, ModelNotFound
from app.generations.formats.served.chat_request import chat_input
from app.generations.requests import StartRequest

__all__ = ["IMAGE_FORMATS", "Served", "Target"]

IMAGE_FORMATS = frozenset({"openai-images"})
_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """``model`` is what the upstream is asked for; None leaves it to the kind."""

    kind: str
    format: str
    model: str | None
    max_bytes: int
    """Of its log: what may wait for a reader."""
    kept_for: float
    """Seconds that what belongs to its generations is of use."""


class Served:
    """The names that clients may give."""

    def __init__(self, config: ServedConfig, generations: GenerationsConfig) -> None:
        self.config = config
        self._generations = generations
        self._kinds = generations.kinds

    @property
    def names(self) -> list[str]:
        """All names but those that are only passed on."""
        return list(dict.fromkeys([*self.config.models, *self._kinds]))

    def find(self, model: Any) -> Target:
        """Return what answers ``model``. Raises :exc:`~app.errors.BadRequest` and ``ModelNotFound``."""
        if not isinstance(model, str) or not 0 < len(model) <= _LONGEST_NAME:
            raise BadRequest("model must be a text of 1 to 1024 characters.")
        named = self.config.models.get(model)
        if named is not None:
            return self.kind(named.kind, named.model)
        if model in self._kinds:
            return self.kind(model)
        if self.config.openai.default_kind is None:
            raise ModelNotFound(f"There is no model {model[:64]!r} here. GET /v1/models lists those that there are.")
        return self.kind(self.config.openai.default_kind, model)

    def kind(self, kind: str, model: str | None = None) -> Target:
        """Return the target of a kind that the configuration names."""
        settings = self._kinds[kind]
        max_bytes = settings.max_bytes or self._generations.max_bytes
        # A job's input goes on as it is: so do the lines of a service of one's own.
        format_ = settings.format if settings.job is None else "json-lines"
        return Target(kind, format_, model, max_bytes, self._generations.retention + settings.total_timeout)

    def room(self, model: str) -> int:
        """Return how many bytes may wait for a reader of what answers ``model``, or did, or is no model at all."""
        try:
            return 2 * self.find(model).max_bytes
        except ModelNotFound:
            return 2 * self._generations.max_bytes

    def chat(
        self, target: Target, body: Mapping[str, Any], *, policy: str, key: str | None = None, attended: bool = True
    ) -> StartRequest:
        """Return the start that a body of chat completions asks for; ``key`` makes its repetition attach.

        Raises :exc:`~app.errors.BadRequest` and ``ModelNotFound``.
        """
        if target.format in IMAGE_FORMATS:
            raise ModelNotFound("This is no model for chats: it answers with images, at /v1/images/generations.")
        given = chat_input(target.format, body, target.model)
        return _start(target, given, policy, key, attended)

    def image(self, target: Target, body: Mapping[str, Any], *, policy: str, key: str | None = None) -> StartRequest:
        """Return the start that a body of OpenAI's images asks for. Raises :exc:`~app.errors.BadRequest`."""
        if target.format not in IMAGE_FORMATS | {"json-lines"}:
            raise ModelNotFound("This is no model for images: it answers with text.")
        given = {name: value for name, value in body.items() if name not in {"model", "stream"}}
        return _start(target, given | ({} if target.model is None else {"model": target.model}), policy, key, True)


def _start(target: Target, given: dict[str, Any], policy: str, key: str | None, attended: bool) -> StartRequest:
    fields = {"kind": target.kind, "input": given, "idempotency_key": key, "on_last_disconnect": policy}
    return StartRequest.parse(fields, attended=attended)
