"""uvicorn's HTTP protocol, with the gate before the handshakes of sockets."""

from __future__ import annotations

from typing import cast

import orjson

from app.errors import Overloaded
from app.ws.emulation.connection import HttpConnection
from app.ws.gate import STATE_KEY, Gate

__all__ = ["Front"]

_CODE = Overloaded.code.encode("ascii")
_BODY = orjson.dumps(
    {
        "type": f"https://tidegate.dev/errors/{Overloaded.code}",
        "title": Overloaded.code.capitalize(),
        "status": Overloaded.status,
        "detail": Overloaded.default_message,
        "code": Overloaded.code,
    }
)
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: %%d\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\ncache-control: no-store\r\nx-gateway-error: %b\r\nconnection: close\r\n\r\n%b"
) % (len(_BODY), _CODE, _BODY)
"""The problem of a storm, written once; only its time differs."""


class Front(HttpConnection):
    """One connection, as long as it speaks HTTP."""

    def handle_websocket_upgrade(self) -> None:
        gate = cast(Gate | None, self.app_state.get(STATE_KEY))
        wait = 0 if gate is None else gate.refuse(self.client[0] if self.client else None, self.headers)
        if not wait:
            super().handle_websocket_upgrade()
            return
        self.transport.write(_ANSWER % wait)
        self.transport.close()
