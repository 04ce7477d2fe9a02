"""A real server for tests, which can be frozen, killed and started again under the same address."""

from __future__ import annotations

import os
import signal

from app.streams.redis.embedded import EmbeddedValkey

__all__ = ["ValkeyServer"]


class ValkeyServer(EmbeddedValkey):
    """Touches no process but its own."""

    def __init__(self) -> None:
        super().__init__()
        self._alive = False
        self._paused = False

    def start(self) -> None:
        super().start()
        self._alive = True

    def pause(self) -> None:
        """Freeze it: connections stay, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def kill(self) -> None:
        """End it as a crash does; what it held is lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._alive = self._paused = False

    def heal(self) -> None:
        """Make it answer again, whatever a test did to it."""
        if not self._alive:
            self.start()
        elif self._paused:
            self.resume()

    def stop(self) -> None:
        if self._paused:
            self.resume()
        super().stop()
