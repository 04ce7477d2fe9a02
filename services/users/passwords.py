"""Passwords: argon2id, in threads, so that a hash of fifty milliseconds stops nobody else."""

from __future__ import annotations

from pwdlib import PasswordHash
from pwdlib.exceptions import PwdlibError
from pwdlib.hashers.argon2 import Argon2Hasher

from services.web.threads import Threads

__all__ = ["Passwords"]


class Passwords:
    """``workers`` hashes at once, ``queue`` waiting; each takes ``memory`` KiB."""

    def __init__(self, workers: int, queue: int, memory: int) -> None:
        self._hasher = PasswordHash((Argon2Hasher(memory_cost=memory),))
        self._threads = Threads("passwords", workers, queue)
        self._of_nobody: str | None = None

    async def hash(self, password: str) -> str:
        """What is stored. Raises ``Unavailable``."""
        return await self._threads.run(self._hasher.hash, password)

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Whether it is right, and a newer hash where the stored one is of weaker parameters.

        Without a stored one it is wrong, after the same time. Raises ``Unavailable``.
        """
        if stored is None and self._of_nobody is None:
            self._of_nobody = await self.hash("nobody's password")
        right, newer = await self._threads.run(self._verify, password, stored or self._of_nobody)
        return (right, newer) if stored is not None else (False, None)

    def close(self) -> None:
        """Take no more."""
        self._threads.close()

    def _verify(self, password: str, stored: str) -> tuple[bool, str | None]:
        try:
            return self._hasher.verify_and_update(password, stored)
        except PwdlibError:  # A hash of another program.
            return False, None
