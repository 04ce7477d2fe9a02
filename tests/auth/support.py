"""A real identity provider of one URL for tests: a JWKS server that rotates, dies, and answers wrongly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

__all__ = ["KEYS", "KeyServer", "jwk", "key_server", "signed"]

KEYS = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "other-rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "weak-rsa": rsa.generate_private_key(public_exponent=65537, key_size=1024),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "ec384": ec.generate_private_key(ec.SECP384R1()),
    "ed": ed25519.Ed25519PrivateKey.generate(),
}


def jwk(key: Any, kid: str | None = None, **members: Any) -> dict[str, Any]:
    """Return the public part of ``key`` as an issuer publishes it."""
    public = key.public_key()
    form = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else OKPAlgorithm
    form = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else form
    known = {name: value for name, value in form.to_jwk(public, as_dict=True).items() if name != "key_ops"}
    return {**known, **({} if kid is None else {"kid": kid}), **members}


def signed(key: Any, kid: str | None, algorithm: str = "RS256", now: float | None = None, **claims: Any) -> str:
    """Return a token of ten minutes."""
    now = time.time() if now is None else now
    payload = {"sub": "42", "iat": int(now), "exp": int(now) + 600, **claims}
    return jwt.encode(payload, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


class KeyServer:
    """``answer`` is what it sends to each request, byte by byte; ``gate`` holds answers back while it is not set."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[bytes] = []
        self.answer = b""
        self.pages: dict[str, bytes] = {}
        """What it answers in place of ``answer`` to requests for some paths."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.ends = True
        """Whether an answer comes to an end."""
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    def publish(self, *keys: dict[str, Any]) -> None:
        self.reply(json.dumps({"keys": keys}).encode())

    def reply(self, body: bytes, status: str = "200 OK", headers: str = "", *, path: str | None = None) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
        if path is None:
            self.answer = head.encode() + body
        else:
            self.pages[path] = head.encode() + body

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.gate.wait()
            writer.write(self.pages.get(self.requests[-1].split()[1].decode(), self.answer))
            await writer.drain()
            if not self.ends:
                await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()


@contextlib.asynccontextmanager
async def key_server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, backlog=1024)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(server.tasks):
            task.cancel()
        await listener.wait_closed()
