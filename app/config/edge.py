"""What can be set about the edge: what a request must be like, what browsers are told, how answers are packed."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from app.config.section import LOWER_CASE, UPPER_CASE, Section, WrongSetting

__all__ = ["CompressionConfig", "CorsConfig", "RequestsConfig", "SecurityHeadersConfig"]

_ORIGIN = re.compile(
    r"https?://(\*\.)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?)(:([0-9]{1,5}|\*))?/?"
)
_FIELD_VALUE = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class RequestsConfig(Section):
    """How long and how large what comes before an answer may be, and how long a client may leave an answer unread. Who
    is beyond gets 408, 413 or 431, or nothing more, and his connection is closed."""

    head_timeout: float = Field(10.0, gt=0, le=600)
    """Time for a request's whole head, counted from its first byte or, for the first one, from the connection. It holds
    for handshakes of sockets, too."""
    idle_timeout: float = Field(75.0, gt=0, le=3600)
    """How long a connection may stay open without a request. Let it be longer than the load balancer's own."""
    body_timeout: float = Field(20.0, gt=0, le=3600)
    """In each such time a body must bring `body_rate` bytes a second, or its end."""
    body_rate: int = Field(240, ge=1)
    """Bytes a second, on average over `body_timeout`."""
    send_timeout: float = Field(60.0, gt=0, le=3600)
    """How long a client may take nothing of an answer that waits for it: it holds an upstream's connection all the
    while."""
    max_head: int = Field(64 * 1024, ge=1024, le=1024 * 1024)
    """Bytes of a head: request line, names and values."""
    max_headers: int = Field(128, ge=8, le=10_000)
    """Header lines of a request."""
    max_pipelined: int = Field(64, ge=1, le=10_000)
    """Requests that may wait on one connection behind the one that is being answered. The connection is closed after
    their answers, and what came beyond is not looked at."""


class CorsConfig(Section):
    """Which pages of other origins may call the gateway from a browser. Where origins are named, the gateway answers
    preflights itself, before any token is asked for, and what upstreams say about CORS is replaced; where none are, it
    leaves all of that to them."""

    origins: tuple[str, ...] = ()
    """`https://app.example.com`; `https://*.example.com` for all names below it; `http://localhost:*` for all ports;
    `*` for all, without credentials. Those of `server.allowed_origins` are allowed as well."""
    methods: tuple[Annotated[str, UPPER_CASE], ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
    """Methods that a page may use."""
    headers: tuple[str, ...] = ("*",)
    """Headers that a page may send; `*` for those that it asks for."""
    expose: tuple[str, ...] = (
        "X-Request-ID",
        "X-Process-Time",
        "X-Gateway-Error",
        "Retry-After",
        "RateLimit",
        "RateLimit-Policy",
        "Location",
        "ETag",
    )
    """Headers of answers that a page may read, beside the usual ones."""
    credentials: bool = False
    """Whether a page may send cookies. Tokens in `Authorization` need no such thing."""
    max_age: int = Field(600, ge=0, le=86_400)
    """Seconds for which a browser may remember a preflight."""

    @field_validator("origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if text != "*" and not _ORIGIN.fullmatch(text):
                raise ValueError(f"{text[:128]!r} is no origin. Write https://app.example.com or https://*.example.com")
        return value

    @field_validator("methods", "headers", "expose")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"holds {name[:64]!r}, which cannot be a name")
        return value

    @model_validator(mode="after")
    def _credentials_need_names(self) -> CorsConfig:
        if self.credentials and "*" in self.origins:
            raise WrongSetting(("credentials",), "goes not together with the origin *. Name the origins")
        return self


class SecurityHeadersConfig(Section):
    """Headers that tell browsers to be careful. Answers that have one of them already keep their own; an empty text
    leaves it out."""

    enabled: bool = True
    """Whether they are added."""
    referrer_policy: str = "strict-origin-when-cross-origin"
    """`Referrer-Policy`."""
    frame_options: str = "DENY"
    """`X-Frame-Options`: who may show the gateway's answers in a frame."""
    hsts_max_age: int = Field(31_536_000, ge=0)
    """Seconds of `Strict-Transport-Security`, which is sent where clients use https; 0 for none."""
    hsts_subdomains: bool = False
    """Whether that holds for all names below, too."""
    content_security_policy: str = (
        "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: "
        "blob:; media-src 'self' data: blob:; connect-src 'self' ws: wss:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    )
    """`Content-Security-Policy` of the gateway's own pages (HTML); those of upstreams are left alone."""

    @field_validator("referrer_policy", "frame_options", "content_security_policy")
    @classmethod
    def _can_be_sent(cls, value: str) -> str:
        if not _FIELD_VALUE.fullmatch(value):
            raise ValueError("holds what a header cannot: write one line of visible ASCII characters")
        return value


class CompressionConfig(Section):
    """Compression of answers, by gzip or Brotli, whichever the client likes better. Not compressed are streams of
    events, answers that are already encoded, that forbid it (`no-transform`) or set cookies, and those to requests with
    cookies from other sites (BREACH)."""

    enabled: bool = True
    """Whether answers are compressed."""
    min_size: int = Field(1024, ge=0)
    """Bytes: smaller answers are sent as they are."""
    types: tuple[Annotated[str, LOWER_CASE], ...] = (
        "text/*",
        "application/json",
        "application/*+json",
        "application/javascript",
        "application/xml",
        "application/*+xml",
        "application/wasm",
        "image/svg+xml",
    )
    """Media types that are worth it; `*` stands for any part of a name."""
    gzip_level: int = Field(5, ge=1, le=9)
    """1 is fast, 9 is small."""
    brotli_quality: int = Field(4, ge=0, le=11)
    """0 is fast, 11 is small."""
    max_concurrent: int = Field(64, ge=1, le=10_000)
    """Answers that are compressed at once; others are sent as they are meanwhile."""
