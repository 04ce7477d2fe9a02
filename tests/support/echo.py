"""An echo over the gateway's own WebSocket class, for conformance tests."""

from __future__ import annotations

import argparse
from typing import Any

import uvicorn

from app.composition.server_connection import ServerConnection
from app.ws.connection import EXTENSION, Connection
from app.ws.frames import text_frame

LARGEST = 20 * 1024 * 1024


class EchoSession:
    """:class:`~app.ws.ports.SessionPort`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def receive_text(self, data: bytes) -> None:
        try:
            data.decode()
        except UnicodeDecodeError:  # as the protocols do: a connection hands over bytes
            self._connection.close(1007, "invalid_text")
        else:
            self._connection.write(text_frame(data))

    def receive_binary(self, data: bytes) -> None:
        self._connection.write(b"\x82" + text_frame(data)[1:])

    def pause_writing(self) -> None:
        self._connection.pause_reading()  # who doesn't read the echoes sends no more

    def resume_writing(self) -> None:
        self._connection.resume_reading()

    def lost(self) -> None:
        pass

    def go_away(self) -> None:
        self._connection.close(1001, "going away")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    connection = scope["extensions"][EXTENSION]
    connection.attach(EchoSession(connection))


def main() -> None:
    parser = argparse.ArgumentParser(description="An echo over the gateway's WebSocket class.")
    parser.add_argument("--port", type=int, default=9101)
    options = parser.parse_args()
    uvicorn.run(
        echo, host="127.0.0.1", port=options.port, loop="uvloop", http=ServerConnection, ws=Connection, lifespan="off",
        ws_max_size=LARGEST, ws_per_message_deflate=False, access_log=False, log_level="warning",
    )  # fmt: skip


if __name__ == "__main__":
    main()
