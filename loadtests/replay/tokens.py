"""A fresh token for each virtual user."""

from __future__ import annotations

import asyncio
import csv
import secrets
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import jwt

from loadtests.replay.options import Options

__all__ = ["Tokens", "TokensFailed"]

_MARGIN = 0.2
"""Share of its life before which a token is taken to be fresh enough for another socket."""
_COMMANDS = 8
"""Token commands that run at once."""
_COMMAND_TIMEOUT = 30.0


class TokensFailed(Exception):
    """No token can be had."""


class Tokens:
    """Where tokens come from: a secret, a command, a file, or nowhere. Raises :exc:`TokensFailed`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._listed = _read(options.tokens_csv) if options.tokens_csv else []
        self._held: dict[str, tuple[str, float]] = {}
        self._commands = asyncio.Semaphore(_COMMANDS)
        if options.tokens_csv and len(self._listed) < options.clients:
            raise TokensFailed(f"{options.tokens_csv} has {len(self._listed)} tokens for {options.clients} users")

    def user(self, number: int) -> str:
        """Return the name of a user, by which another one's data is known."""
        return self._listed[number][0] if self._listed else self._options.user.replace("{vu}", str(number))

    async def get(self, number: int, *, fresh: bool = False) -> str:
        """Return a token of a user; the one that it has, unless that ends soon or ``fresh`` is asked for."""
        options, user = self._options, self.user(number)
        if self._listed:
            return self._listed[number][1]
        held = self._held.get(user)
        if held is not None and not fresh and held[1] > time.time():
            return held[0]
        if options.jwt_secret is not None:
            token = self._mint({"sub": user})
        elif options.token_command is not None:
            token = await self._run(options.token_command.replace("{user}", user).replace("{vu}", str(number)))
        else:
            return ""
        self._held[user] = token, time.time() + options.token_ttl * (1 - _MARGIN)
        return token

    def of_channel(self, number: int) -> Callable[[str], str]:
        """Return what mints a user's subscription tokens; without a secret they are empty."""
        return lambda channel: self._mint({"sub": self.user(number), "channel": channel})

    def _mint(self, claims: dict[str, object]) -> str:
        options, now = self._options, time.time()
        if options.jwt_secret is None:
            return ""
        expiry = now + options.token_ttl
        whole = {
            "iat": int(now),
            "exp": int(expiry) if options.token_ttl >= 60 else expiry,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode({**whole, **options.claims, **claims}, options.jwt_secret, algorithm="HS256")

    async def _run(self, command: str) -> str:
        async with self._commands:
            pipe = asyncio.subprocess.PIPE
            try:
                process = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=pipe, stderr=pipe)
            except (OSError, ValueError) as error:
                raise TokensFailed(f"{command}: {error}") from None
            try:
                async with asyncio.timeout(_COMMAND_TIMEOUT):
                    out, err = await process.communicate()
            except TimeoutError:
                process.kill()
                raise TokensFailed(f"the token command took more than {_COMMAND_TIMEOUT:.0f} s") from None
        token = out.decode(errors="replace").strip()
        if process.returncode or not token or any(each in token for each in "\r\n"):
            raise TokensFailed(f"the token command failed: {err.decode(errors='replace').strip()[-300:] or 'no token'}")
        return token


def _read(path: str) -> list[tuple[str, str]]:
    """Return the (user, token) pairs of a file; a first line that names them is left out."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [(row[0].strip(), row[1].strip()) for row in csv.reader(file) if len(row) >= 2]
    except (OSError, UnicodeDecodeError) as error:
        raise TokensFailed(f"{path}: {error}") from None
    return [row for row in rows if row != ("user", "token")]
