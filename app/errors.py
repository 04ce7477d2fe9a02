"""Every error that Tidegate tells somebody about, as one tree.

Each class carries what the borders need: a stable ``code`` (the ``code`` of a WebSocket error, the last part of a
problem's ``type``), an HTTP ``status``, the WebSocket ``close_code`` where the error ends the socket, and whether a
client may try again (``retryable``). ``docs/errors.md`` lists them; a test compares the two.

::

    TidegateError                     internal               500
    ├── BadRequest                    bad_request            400
    │   ├── UnknownCommand            unknown_command        400
    │   ├── PreviousNotFound          previous_response_not_found 400
    │   ├── UnsupportedData           unsupported_data       415   1003
    │   ├── InvalidText               invalid_text           400   1007
    │   ├── MessageTooBig             message_too_big        413   1009
    │   ├── InvalidUpload             invalid_upload         422
    │   │   ├── FileTooLarge          file_too_large         413
    │   │   └── UnsupportedFile       unsupported_file       415
    │   ├── HeadTooLarge              head_too_large         431
    │   ├── RequestTimeout            request_timeout        408
    │   ├── Misdirected               misdirected            421
    │   ├── NotImplementedHere        not_implemented        501
    │   └── UnknownVersion            unknown_version        505
    ├── Unauthenticated               unauthenticated        401   4501
    │   ├── InvalidToken              invalid_token          401   4501
    │   │   └── TokenRevoked          token_revoked          401   4501
    │   ├── InvalidServiceKey         invalid_service_key    401   4501
    │   ├── InvalidSignature          invalid_signature      401   4501
    │   ├── TokenExpired              token_expired          401   4401
    │   └── AuthTimeout               auth_timeout           401   4408
    ├── PermissionDenied              permission_denied      403
    │   └── InsufficientScope         insufficient_scope     403
    ├── NotFound                      not_found              404
    │   └── ModelNotFound             model_not_found        404
    ├── MethodNotAllowed              method_not_allowed     405
    ├── UpgradeRequired               upgrade_required       426
    ├── IdempotencyConflict           idempotency_conflict   409
    ├── Gone                          gone                   410
    ├── TooManyRequests               too_many_requests      429
    │   ├── RateLimited               rate_limited           429
    │   │   └── BudgetExhausted       budget_exhausted       429
    │   ├── TooManyCommands           too_many_commands      429   4429
    │   └── TooManySockets            too_many_sockets       429   4430
    ├── Overloaded                    overloaded             503
    ├── SlowConsumer                  slow_consumer          429   4413
    ├── UpstreamError                 upstream_error         502
    │   ├── UpstreamUnreachable       upstream_unreachable   502
    │   │   ├── UpstreamDown          upstream_down          503
    │   │   ├── UpstreamBusy          upstream_busy          503
    │   │   └── CircuitOpen           circuit_open           503
    │   ├── UpstreamInvalid           upstream_invalid       502
    │   ├── UpstreamTruncated         upstream_truncated     502
    │   └── UpstreamTimeout           upstream_timeout       504
    ├── NotCached                     not_cached             504
    ├── OutputTooLong                 output_too_long        502
    ├── Interrupted                   interrupted            503
    ├── BrokerUnavailable             broker_unavailable     503
    ├── KeysUnavailable               keys_unavailable       503   4431
    └── ConfigError                   config_error           500

Close codes say by their range whether to come back: 1012 and 4000–4499 mean reconnect (after the cure that the code
names: a fresh token, a faster reader), 4500–4999 mean do not. A reason is never empty, never JSON, at most 123 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AuthTimeout", "BadRequest", "BrokerUnavailable", "BudgetExhausted", "CircuitOpen", "ConfigError",
    "FileTooLarge", "Gone", "HeadTooLarge", "IdempotencyConflict", "InsufficientScope", "Interrupted",
    "InvalidServiceKey", "InvalidSignature", "InvalidText", "InvalidToken", "InvalidUpload", "KeysUnavailable",
    "MessageTooBig", "MethodNotAllowed", "Misdirected", "ModelNotFound", "NotCached", "NotFound",
    "NotImplementedHere", "OutputTooLong", "Overloaded", "PermissionDenied", "PreviousNotFound", "RateLimited",
    "RequestTimeout", "SlowConsumer", "TidegateError", "TokenExpired", "TokenRevoked", "TooManyCommands",
    "TooManyRequests", "TooManySockets", "Unauthenticated", "UnknownCommand", "UnknownVersion",
    "UnsupportedData", "UnsupportedFile", "UpgradeRequired", "UpstreamBusy", "UpstreamDown", "UpstreamError",
    "UpstreamInvalid", "UpstreamTimeout", "UpstreamTruncated", "UpstreamUnreachable",
]  # fmt: skip


class TidegateError(Exception):
    """The root. ``message`` is for the person at the other end: what is wrong and what to do; never a secret."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    close_code: ClassVar[int | None] = None
    retryable: bool = False
    retry_after: float | None = None
    """Seconds until another try makes sense, where the error knows."""
    default_message: ClassVar[str] = "The gateway failed. Try again; if it happens again, tell its operator."

    def __init__(
        self, message: str | None = None, *, retryable: bool | None = None, retry_after: float | None = None
    ) -> None:
        """``retryable`` overrides the class's where this one occurrence is otherwise; ``retry_after`` is seconds."""
        self.message = message or self.default_message
        if retry_after is not None:
            self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable
        super().__init__(self.message)


class BadRequest(TidegateError):
    code, status = "bad_request", 400
    default_message = "The request is not of the form that is documented."


class UnknownCommand(BadRequest):
    code = "unknown_command"
    default_message = "There is no such command."


class PreviousNotFound(BadRequest):
    code = "previous_response_not_found"
    default_message = "The response that this one follows is not there, or no longer kept. Send the whole conversation."


class UnsupportedData(BadRequest):
    code, status, close_code = "unsupported_data", 415, 1003
    default_message = "Send text frames; this protocol has no binary frames."


class InvalidText(BadRequest):
    code, close_code = "invalid_text", 1007
    default_message = "A text frame must be UTF-8."


class MessageTooBig(BadRequest):
    code, status, close_code = "message_too_big", 413, 1009
    default_message = "The message is larger than the limit."


class InvalidUpload(BadRequest):
    """``field`` is the name of the form's field that it is about; None for the body as a whole."""

    code, status = "invalid_upload", 422
    default_message = "The body is no form that can be taken here."

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class FileTooLarge(InvalidUpload):
    code, status = "file_too_large", 413
    default_message = "The file is larger than the limit."


class UnsupportedFile(InvalidUpload):
    code, status = "unsupported_file", 415
    default_message = "Files of this type are not taken here."


class HeadTooLarge(BadRequest):
    code, status = "head_too_large", 431
    default_message = "The request's head is larger than the limit."


class RequestTimeout(BadRequest):
    code, status, retryable = "request_timeout", 408, True
    default_message = "The request did not come in time."


class Misdirected(BadRequest):
    code, status = "misdirected", 421
    default_message = "Nothing is served here under that host name."


class NotImplementedHere(BadRequest):
    code, status = "not_implemented", 501
    default_message = "The request asks for something that is not served here."


class UnknownVersion(BadRequest):
    code, status = "unknown_version", 505
    default_message = "Speak HTTP/1.1 or HTTP/1.0."


class Unauthenticated(TidegateError):
    code, status, close_code = "unauthenticated", 401, 4501
    default_message = "Send a token."


class InvalidToken(Unauthenticated):
    code = "invalid_token"
    default_message = "The token is not valid here."


class TokenRevoked(InvalidToken):
    code = "token_revoked"
    default_message = "The token was revoked. Sign in again."


class InvalidServiceKey(Unauthenticated):
    code = "invalid_service_key"
    default_message = "Send one of the gateway's service keys as X-Service-Key."


class InvalidSignature(Unauthenticated):
    code = "invalid_signature"
    default_message = "The signature is not of a secret that is good here, or not of this body."


class TokenExpired(Unauthenticated):
    code, close_code, retryable = "token_expired", 4401, True
    default_message = "The token has expired. Get a fresh one and come back."


class AuthTimeout(Unauthenticated):
    code, close_code, retryable = "auth_timeout", 4408, True
    default_message = "No token came in time."


class PermissionDenied(TidegateError):
    code, status = "permission_denied", 403
    default_message = "This is not yours."


class InsufficientScope(PermissionDenied):
    """``scopes`` are those that the request needs."""

    code = "insufficient_scope"
    default_message = "This needs a scope that your token does not have."

    def __init__(self, message: str | None = None, *, scopes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.scopes = scopes


class NotFound(TidegateError):
    code, status = "not_found", 404
    default_message = "There is nothing here."


class ModelNotFound(NotFound):
    code = "model_not_found"
    default_message = "There is no such model here. GET /v1/models lists those that there are."


class MethodNotAllowed(TidegateError):
    code, status = "method_not_allowed", 405
    default_message = "This path does not take that method."


class UpgradeRequired(TidegateError):
    code, status = "upgrade_required", 426
    default_message = "Only version 13 of the WebSocket protocol is spoken here."


class IdempotencyConflict(TidegateError):
    code, status = "idempotency_conflict", 409
    default_message = "This idempotency key was used with another body. Use a new key for a new request."


class Gone(TidegateError):
    code, status = "gone", 410
    default_message = "This is no longer kept."


class TooManyRequests(TidegateError):
    code, status, retryable = "too_many_requests", 429, True
    default_message = "Too many requests at once. Wait a moment."


class RateLimited(TooManyRequests):
    """``violated`` names the limits, as the configuration does."""

    code = "rate_limited"
    default_message = "That was one request too many. Wait as long as Retry-After says."

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0, violated: Sequence[str] = ()) -> None:
        super().__init__(message, retry_after=retry_after)
        self.violated = tuple(violated)


class BudgetExhausted(RateLimited):
    """``violated`` names the budgets that have not enough left."""

    code = "budget_exhausted"
    default_message = "The budget is used up. Wait as long as Retry-After says."


class TooManyCommands(TooManyRequests):
    code, close_code = "too_many_commands", 4429
    default_message = "This socket asked for too much, and went on when it was told so. Come back, and more slowly."


class TooManySockets(TooManyRequests):
    code, close_code = "too_many_sockets", 4430
    default_message = "There are as many sockets as are allowed. Close another one, or come back later."


class Overloaded(TidegateError):
    code, status, retryable = "overloaded", 503, True
    default_message = "Too many come at once. Come back in a moment."


class SlowConsumer(TidegateError):
    code, status, close_code, retryable = "slow_consumer", 429, 4413, True
    default_message = "Too much is waiting for this reader. Reconnect and resume."


class UpstreamError(TidegateError):
    code, status, retryable = "upstream_error", 502, True
    default_message = "The service behind the gateway answered with an error."


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"
    default_message = "The service behind the gateway cannot be reached."


class UpstreamDown(UpstreamUnreachable):
    """The same, of an upstream whose ``unreachable_status`` is 503."""

    code, status = "upstream_down", 503
    default_message = "The service behind the gateway is down."


class UpstreamBusy(UpstreamUnreachable):
    code, status = "upstream_busy", 503
    default_message = "The service behind the gateway has too many connections. Try again."


class CircuitOpen(UpstreamUnreachable):
    code, status = "circuit_open", 503
    default_message = "The service behind the gateway fails too often and is left alone for a moment."


class UpstreamInvalid(UpstreamError):
    code = "upstream_invalid"
    default_message = "The service behind the gateway answered with something that is not of its documented form."


class UpstreamTruncated(UpstreamError):
    code = "upstream_truncated"
    default_message = "The service behind the gateway stopped before it said that it was done."


class UpstreamTimeout(UpstreamError):
    code, status = "upstream_timeout", 504
    default_message = "The service behind the gateway took too long."


class NotCached(TidegateError):
    code, status = "not_cached", 504
    default_message = "You asked for a stored answer only, and there is none."


class OutputTooLong(TidegateError):
    code, status = "output_too_long", 502
    default_message = "The generation grew past the limit."


class Interrupted(TidegateError):
    code, status, retryable = "interrupted", 503, True
    default_message = "The replica that ran this generation went away. Start it again."


class BrokerUnavailable(TidegateError):
    code, status, retryable = "broker_unavailable", 503, True
    default_message = "The gateway cannot reach its Redis just now. Try again."


class KeysUnavailable(TidegateError):
    code, status, close_code, retryable = "keys_unavailable", 503, 4431, True
    default_message = "The keys that tokens are verified with cannot be had just now. Try again."


class ConfigError(TidegateError):
    """Raised at start-up: the message names the file, the key and the cure."""

    code = "config_error"
    default_message = "The configuration is wrong."
