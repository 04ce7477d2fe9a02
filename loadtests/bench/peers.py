"""Other servers that do a fan-out: every text message goes to every socket. Each is as its makers would write it.

Run: python -m loadtests.bench.peers uwebsockets --port 8001
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

__all__ = ["PEERS", "installed"]

PEERS = {"uWebSockets": ("uwebsockets", "socketify"), "FastAPI": ("fastapi", "fastapi")}
"""By their name in the table: what they are called here, and the package that they need."""


def installed(name: str) -> bool:
    return find_spec(PEERS[name][1]) is not None


def _uwebsockets(port: int) -> None:
    """uWebSockets (C++) with its own publish, which goes once around its loop."""
    from socketify import App, CompressOptions  # noqa: PLC0415  (perhaps not installed)

    app = App()
    channel = "all"

    def opened(socket: Any) -> None:
        socket.subscribe(channel)

    def message(socket: Any, text: Any, kind: Any) -> None:
        app.publish(channel, text, kind)

    app.ws("/*", {"compression": CompressOptions.DISABLED, "open": opened, "message": message, "idle_timeout": 120})
    app.listen({"host": "127.0.0.1", "port": port})
    app.run()


def _fastapi(port: int) -> None:
    """The loop of FastAPI's tutorial: a list of sockets, and an await for each."""
    import uvicorn  # noqa: PLC0415
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect  # noqa: PLC0415

    app = FastAPI()
    everybody: list[WebSocket] = []

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        everybody.append(socket)
        try:
            while True:
                text = await socket.receive_text()
                for each in everybody.copy():
                    await each.send_text(text)
        except WebSocketDisconnect:
            pass
        finally:
            everybody.remove(socket)

    talk.__annotations__["socket"] = WebSocket  # a local name, which FastAPI could not look up
    app.websocket("/")(talk)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        ws_per_message_deflate=False,
        log_level="error",
        access_log=False,
    )


_SERVERS: dict[str, Callable[[int], None]] = {"uwebsockets": _uwebsockets, "fastapi": _fastapi}


def main() -> None:
    parser = argparse.ArgumentParser(description="Other servers that do a fan-out.")
    parser.add_argument("name", choices=sorted(_SERVERS))
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args()
    _SERVERS[options.name](options.port)


if __name__ == "__main__":
    main()
