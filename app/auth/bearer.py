"""The one reader of ``Authorization: Bearer`` (RFC 6750 section 2.1): of the proxy, the API and sockets. Pure.

Another scheme is as good as no header: it says nothing to the gateway. ``Basic`` may be meant for the upstream of an
open route, and browsers send it by themselves with the handshake of a socket where a page is behind a password; so who
needs a token is told to send one, and a socket may still bring it by any other way.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import BadRequest, InvalidToken

__all__ = ["bearer_token"]

_FORM = "The form is Authorization: Bearer <token>."


def bearer_token(received: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the token; None without the header, or with another scheme. ``received`` has lower-case names.

    Raises :exc:`~app.errors.InvalidToken` for an empty token, and :exc:`~app.errors.BadRequest` for two Authorization
    headers (section 3.1): which one counts cannot be told.
    """
    values = [value for name, value in received if name == b"authorization"]
    if not values:
        return None
    if len(values) > 1:
        raise BadRequest("Send one Authorization header.")
    scheme, _, token = values[0].strip().partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    if not token.strip():
        raise InvalidToken("The Authorization header holds no token. " + _FORM)
    return token.strip().decode("latin-1")
