"""python-socketio's asynchronous server on uvicorn: ``emit`` to everybody."""

import sys
from typing import Any

import socketio
import uvicorn

server = socketio.AsyncServer(
    async_mode="asgi", cors_allowed_origins="*", http_compression=False, transports=["websocket"],
    ping_interval=300, ping_timeout=300,
)  # fmt: skip


@server.event
async def say(_: str, data: Any) -> None:
    """Send every message to every socket."""
    await server.emit("said", data)


if __name__ == "__main__":
    uvicorn.run(socketio.ASGIApp(server), host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop",
                ws_per_message_deflate=False, log_level="error", access_log=False)  # fmt: skip
