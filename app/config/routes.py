"""What can be set about the requests that are passed on to upstreams."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from app.config.cache import RouteCacheConfig
from app.config.jobs import RouteGenerationConfig
from app.config.kafka import TOPIC
from app.config.section import LOWER_CASE, UPPER_CASE, Section, WrongSetting
from app.config.uploads import UploadConfig

__all__ = ["AnswerConfig", "HeadersConfig", "RouteConfig"]

_FIELD_NAME = re.compile(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
_FIELD_VALUE = re.compile(r"^[\t\x20-\x7e\x80-\xff]*$")
_HOST = re.compile(r"^(\*\.)?[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$|^\[[0-9a-f:.]+\]$")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
REST = "rest"
"""The placeholder of ``rewrite`` that stands for what ``/*`` matched."""
_NEVER_EDITED = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Framing and routing are the gateway's."""


class HeadersConfig(Section):
    """Edits of header fields, after everything else: what is removed, then what is set, then what is added."""

    remove: tuple[Annotated[str, LOWER_CASE], ...] = ()
    """Fields that do not cross."""
    set: dict[str, str] = Field(default_factory=dict)
    """Fields that get this one value, whatever they had."""
    add: dict[str, str] = Field(default_factory=dict)
    """Fields that get this value beside those they have."""

    @model_validator(mode="after")
    def _fields_can_be_sent(self) -> HeadersConfig:
        for key, fields in (("set", self.set), ("add", self.add)):
            for name, value in fields.items():
                check_field_name((key, name), name)
                if not _FIELD_VALUE.fullmatch(value) or value != value.strip():
                    raise WrongSetting((key, name), "holds what a header cannot: write one line of visible characters")
        for index, name in enumerate(self.remove):
            check_field_name(("remove", index), name)
        return self


class AnswerConfig(Section):
    """What the gateway answers by itself."""

    status: int = Field(200, ge=200, le=599)
    """The status of the answer."""
    body: str = ""
    """The body, as it stands."""
    content_type: str = "application/json"
    """What the body is."""


class RouteConfig(Section):
    """Requests that are passed on to an upstream. The first route of the file that matches is taken."""

    path: str
    """An exact path, or a prefix that ends in `/*`; `{name}` stands for one segment."""
    methods: tuple[Annotated[str, UPPER_CASE], ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    """The methods that are passed on; others are answered 405."""
    hosts: tuple[Annotated[str, LOWER_CASE], ...] = ()
    """Names by which the request must have asked, without port: `api.example.com`, or `*.example.com` for any name
    below; empty for all."""
    upstream: str = ""
    """The name of a table under `[upstreams]`. Only a route with an `answer` of its own needs none."""
    topic: str = Field("", pattern=TOPIC)
    """Of an upstream that is asked over Kafka: where requests go; empty for the upstream's own `topic`."""
    answer: AnswerConfig | None = None
    """`[routes.answer]`: what the gateway answers by itself, instead of asking an upstream."""
    cache: RouteCacheConfig | None = None
    """`[routes.cache]`: answers to GET and HEAD are stored and given again."""
    generation: RouteGenerationConfig | None = None
    """`[routes.generation]`: the answer begins a job, which can be watched as a generation by the id in it."""
    upload: UploadConfig | None = None
    """`[routes.upload]`: bodies are forms with files, which are checked while they pass."""
    label: str = ""
    """What logs and metrics call the route; empty for its path."""
    analytics: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """The service of which its requests are events, for example `llm_chat`; empty for no events."""
    strip_prefix: str = ""
    """What is taken off the front of the path before it is passed on."""
    rewrite: str = ""
    """The path that is passed on instead: `/v2/{id}/{rest}`, with the path's own names, and `{rest}` for what `/*`
    matched. Not together with `strip_prefix`."""
    auth: Literal["none", "optional", "required", "upstream", "service"] = "required"
    """Whether a token is not looked at, verified where there is one, or demanded; `upstream` demands one and leaves it
    to the upstream what it is worth; `service` demands one of `auth.service_keys` instead, as `X-Service-Key` or
    `X-Internal-Key`."""
    missing_token: str = ""
    """What the caller is told who shows no token where one is demanded; empty for the gateway's own words."""
    roles: tuple[str, ...] = ()
    """The caller must have one of these, or gets 403."""
    scopes: tuple[str, ...] = ()
    """The caller's token must have all of these, or gets 403."""
    required_claims: dict[str, str] = Field(default_factory=dict)
    """Claims that the token must carry, or the caller gets 403: `"app_metadata.company_id" = "*"` for any value, else
    the value itself."""
    missing_claim: str = ""
    """What the caller is told who lacks one of `required_claims`; empty for a text that names it."""
    claim_headers: dict[str, str] = Field(default_factory=dict)
    """Further headers for the upstream, from claims of the token: `"X-Plan" = "app_metadata.plan"`. Clients cannot send
    them themselves. Who the caller is (`X-User-ID`, `X-Company-ID`, `X-User-Email`, `X-User-Roles`) is always told."""
    forward_authorization: bool | None = None
    """Whether the caller's `Authorization` is passed on; by default where `auth` is `none` or `upstream`."""
    forward_service_key: bool = False
    """Whether `X-Service-Key` and `X-Internal-Key` are passed on."""
    request_headers: HeadersConfig = HeadersConfig()
    """Edits of the request's headers. Who the caller is cannot be edited."""
    response_headers: HeadersConfig = HeadersConfig()
    """Edits of the answer's headers."""
    limits: tuple[str, ...] = ()
    """Names of tables under `[limits]`: a request counts against all of them, or is answered 429."""
    count_tokens: bool = False
    """Whether the tokens of language models' calls are read from their answers, for logs and events. Where one of
    `limits` counts tokens they always are."""
    websocket: bool = False
    """Whether WebSocket handshakes are passed on, too, whatever `methods` says. Without it they are answered 404."""
    socket_message_limit: int = Field(1024 * 1024, ge=1)
    """Largest message of such a socket, in both directions; it closes with 1009."""
    socket_idle_timeout: float | None = Field(None, gt=0)
    """After so long without a message in either direction the socket is closed; none for never."""
    socket_lifetime: float | None = Field(None, gt=0)
    """After so long the socket is closed with 1012, for the client to come back; none for never."""
    body_limit: int | None = Field(None, ge=1)
    """Overrides `server.body_limit`."""
    timeout: float | None = Field(None, gt=0)
    """From passing the request on to the answer's head, with all tries and pauses; none for what the tries may take."""
    retries: int | None = Field(None, ge=0, le=10)
    """Overrides the upstream's `retries.count`."""
    hedge: bool | None = None
    """Overrides the upstream's `hedge.enabled`."""

    @property
    def keeps_authorization(self) -> bool:
        """Whether the caller's ``Authorization`` is passed on."""
        if self.forward_authorization is None:
            return self.auth in ("none", "upstream")
        return self.forward_authorization

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, path: str) -> str:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise ValueError("must start with / and may hold * only as a last segment, for example /v1/*")
        return path

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise ValueError(f"holds {host!r}, which is no host name. Write api.example.com or *.example.com")
        return hosts

    @model_validator(mode="after")
    def _goes_somewhere(self) -> RouteConfig:
        if not self.upstream and self.answer is None:
            raise WrongSetting(("upstream",), "is missing. Name a table under [upstreams], or give the route an answer")
        if self.upstream and self.answer is not None:
            raise WrongSetting(("upstream",), "cannot stand beside an answer. Keep one of the two")
        if self.websocket and self.auth == "upstream":
            raise WrongSetting(("auth",), "is upstream, which sockets know nothing of. Choose another, or no websocket")
        if self.websocket and self.answer is not None:
            raise WrongSetting(("websocket",), "needs an upstream to pass sockets on to. Keep it or the answer")
        if self.generation is not None and self.answer is not None:
            raise WrongSetting(("generation",), "needs an upstream that begins the job. Keep it or the answer")
        if self.upload is not None and self.answer is not None:
            raise WrongSetting(("upload",), "needs an upstream that takes the files. Keep it or the answer")
        if self.upload is not None and self.count_tokens:
            raise WrongSetting(("upload",), "cannot stand beside count_tokens, which reads JSON. Keep one of the two")
        if self.cache is not None and self.answer is not None:
            raise WrongSetting(("cache",), "cannot stand beside an answer, which the gateway has at hand. Remove it")
        return self

    @model_validator(mode="after")
    def _rewrite_is_possible(self) -> RouteConfig:
        if not self.rewrite:
            return self
        if self.strip_prefix:
            raise WrongSetting(("rewrite",), "goes not together with strip_prefix. Keep one of the two")
        if not self.rewrite.startswith("/"):
            raise WrongSetting(("rewrite",), "must start with /")
        known = set(_PLACEHOLDER.findall(self.path)) | ({REST} if self.path.endswith("/*") else set())
        for name in _PLACEHOLDER.findall(self.rewrite):
            if name not in known:
                raise WrongSetting(("rewrite",), f"holds {{{name}}}, which {self.path} does not have")
        if f"{{{REST}}}" in self.rewrite.removesuffix(f"{{{REST}}}"):
            raise WrongSetting(("rewrite",), "holds {rest} before its end, where it could be empty")
        if "*" in self.rewrite:
            raise WrongSetting(("rewrite",), "holds *. Write {rest} for what /* matched")
        return self

    @model_validator(mode="after")
    def _demands_need_a_token(self) -> RouteConfig:
        for key in ("roles", "scopes", "required_claims"):
            if getattr(self, key) and self.auth != "required":
                raise WrongSetting(
                    (key,), f"demands something of a token, but auth is {self.auth}. Set auth to required"
                )
        for name in self.claim_headers:
            check_field_name(("claim_headers", name), name)
        return self


def check_field_name(key: tuple[str | int, ...], name: str) -> None:
    """Raises :exc:`~app.config.section.WrongSetting` for what is no name of a header field, or may not be edited."""
    if not _FIELD_NAME.fullmatch(name):
        raise WrongSetting(key, f"names {name!r}, which is no name of a header")
    if name.lower() in _NEVER_EDITED:
        raise WrongSetting(key, f"names {name}, which only the gateway itself sets. Remove it")
