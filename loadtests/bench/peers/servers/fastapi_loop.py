"""The loop of FastAPI's tutorial: a list of sockets, and an await for each."""

import contextlib
import sys

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app = FastAPI()
everybody: list[WebSocket] = []


@app.websocket("/")
async def talk(socket: WebSocket) -> None:
    """Send every message to every socket."""
    await socket.accept()
    everybody.append(socket)
    try:
        while True:
            text = await socket.receive_text()
            for each in everybody.copy():
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # or one that has gone ends this one, too
                    await each.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        everybody.remove(socket)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", ws_per_message_deflate=False,
                log_level="error", access_log=False)  # fmt: skip
