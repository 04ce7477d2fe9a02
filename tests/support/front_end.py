"""What screenshot-to-code's front end does with the frames of ``/generate-code``, written from its protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

__all__ = ["FrontEnd"]


class FrontEnd:
    """The state of its page."""

    def __init__(self) -> None:
        self.code: dict[int, str] = {}
        self.variants: int | None = None
        self.complete: set[int] = set()
        self.errors: dict[int, str] = {}
        self.error: str | None = None
        self.kinds: list[str] = []
        self.close: tuple[int, str] = (0, "")
        self.bytes = 0

    def take(self, message: dict[str, Any]) -> None:
        kind, variant, value = message["type"], message["variantIndex"], message.get("value")
        self.kinds.append(kind)
        match kind:
            case "variantCount":
                self.variants = int(value)
            case "chunk":
                self.code[variant] = self.code.get(variant, "") + value
            case "setCode":
                self.code[variant] = value
            case "variantComplete":
                self.complete.add(variant)
            case "variantError":
                self.errors[variant] = value
            case "error":
                self.error = value
            case _:
                assert kind in {"status", "thinking"}

    async def read(self, socket: ClientConnection) -> FrontEnd:
        """Read until the close."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await asyncio.wait_for(socket.recv(), 15)
                self.bytes += len(text)
                self.take(json.loads(text))
        self.close = (socket.close_code or 0, socket.close_reason or "")
        return self
