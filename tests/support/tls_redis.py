"""A Redis that speaks TLS and nothing else: one on the PATH, or Debian's, which ``tests/install-redis.sh`` fetches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import redis

from tests.support.gateway import free_port

__all__ = ["NoTlsRedis", "TlsRedis"]

_FETCHED = Path(sys.prefix) / "share" / "redis"


class NoTlsRedis(Exception):
    """There is none here."""


class TlsRedis:
    """On a free port, with ``server.pem`` of ``papers``. It asks clients for a certificate of ``ca.pem``.

    Its only user but for the default one, which may do nothing, is ``gateway``.
    """

    password = "for-the-gateway"

    def __init__(self, papers: Path) -> None:
        self.port = free_port()
        self._papers = papers
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-tls-"))
        self._process: subprocess.Popen[bytes] | None = None
        candidates = [shutil.which("valkey-server"), shutil.which("redis-server"), _FETCHED / "usr/bin/redis-server"]
        self._path = next((str(each) for each in candidates if each and self._starts(str(each))), "")
        if not self._path:
            self.close()
            raise NoTlsRedis("there is no Redis with TLS here: tests/install-redis.sh fetches Debian's")

    def restart(self) -> None:
        """Kill it, and start it again, empty."""
        self.kill()
        assert self._starts(self._path)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _starts(self, path: str) -> bool:
        if not Path(path).exists():
            return False
        papers = self._papers
        options = {
            "port": "0",
            "tls-port": str(self.port),
            "bind": "127.0.0.1",
            "tls-cert-file": str(papers / "server.pem"),
            "tls-key-file": str(papers / "server.key"),
            "tls-ca-cert-file": str(papers / "ca.pem"),
            "tls-auth-clients": "yes",
            "dir": str(self._folder),
            "save": '""',
            "user default": "off",
            "user gateway": f"on >{self.password} ~* &* +@all",
        }
        config = self._folder / "redis.conf"
        config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        libraries = (
            ":".join(str(each) for each in _FETCHED.glob("usr/lib/*-linux-*")) if _FETCHED in Path(path).parents else ""
        )
        environ = {**os.environ, **({"LD_LIBRARY_PATH": libraries} if libraries else {})}
        self._process = subprocess.Popen(
            [path, str(config)], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self._answers()

    def _answers(self) -> bool:
        assert self._process is not None
        files = {name: str(self._papers / file) for name, file in _CLIENT.items()}
        deadline = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with redis.Redis(
                    "localhost", self.port, ssl=True, username="gateway", password=self.password, **files
                ) as client:
                    client.ping()
                return True
            except redis.RedisError:
                time.sleep(0.02)
        return False


_CLIENT = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "client.pem", "ssl_keyfile": "client.key"}
