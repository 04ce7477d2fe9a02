"""uWebSockets with its own publish, which goes once around its loop."""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, CompressOptions


def serve(port: int) -> None:
    """Send every message to every socket."""
    app = App()

    def opened(socket: Any) -> None:
        socket.subscribe("all")

    def message(_: Any, text: Any, kind: Any) -> None:
        app.publish("all", text, kind)

    app.ws("/*", {"compression": CompressOptions.DISABLED, "open": opened, "message": message, "idle_timeout": 120})
    app.listen({"host": "127.0.0.1", "port": port})
    app.loop.uv_loop.run()  # app.run() would look for work all the time, for asyncio's sake: idling would count as work


if __name__ == "__main__":
    serve(int(sys.argv[1]))
