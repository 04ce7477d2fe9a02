"""Runs a system: the gateway and its companions, each on a port of its own, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from pydantic import SecretStr

from app.config import Config, UpstreamConfig, load_config
from app.demo.announcing import announcement
from app.demo.system import Companion, Surroundings, System
from app.demo.systems import SYSTEMS
from app.errors import ConfigError
from app.observe.logs import configure_logging
from app.serving import refuse_taken_port, uvicorn_config

__all__ = ["run"]

_LOOPBACK = "127.0.0.1"
_HERE = ("localhost", _LOOPBACK)


def run(preset: str, environ: Mapping[str, str], port: int | None = None) -> None:
    """Run until SIGINT or SIGTERM. Raises :exc:`~app.errors.ConfigError`.

    A companion is left out where the environment names another address for its upstream, and where packages are
    missing; upstreams that are then nobody's are as if not set up.
    """
    system = SYSTEMS.get(preset)
    if system is None:
        raise ConfigError(f"there is no demo of the preset {preset[:64]!r}. There are: {', '.join(SYSTEMS)}.")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
        _Demo(preset, system, environ, port).run(folder, stack)


@dataclass(frozen=True, slots=True)
class _Demo:
    preset: str
    system: System
    environ: Mapping[str, str]
    port: int | None

    def run(self, folder: Path, stack: contextlib.ExitStack) -> None:
        config = self._config(self.environ)
        refuse_taken_port(config)
        configure_logging(config.server.log_level, config.server.log_format)
        for name in ("uvicorn.error", "alembic"):  # How so many servers start is more than anybody wants to know.
            logging.getLogger(name).setLevel(logging.WARNING)
        listeners = {name: stack.enter_context(self._listener(name, config)) for name, _ in self._wanted(config)}
        environ = {**stack.enter_context(self.system.backdrop(folder, self.environ)), **self.environ}
        around = replace(_surroundings(config, folder, environ, listeners), direct=self.system.direct)
        around = replace(around, environ={**self.system.variables(around), **environ})
        companions = [(self.system.companions[name].create(around), listener) for name, listener in listeners.items()]
        config = self._config(around.environ)
        config = _in_front_of(config, around, self._strangers(config))
        _serve(config, companions, announcement(self.preset, self.system, config, around))

    def _config(self, environ: Mapping[str, str]) -> Config:
        """The preset; on the loopback interface where the environment does not say otherwise."""
        host = None if environ.get("GATEWAY_SERVER__HOST") else _LOOPBACK
        return load_config(None, environ, {"server.port": self.port, "server.host": host}, self.preset)

    def _listener(self, name: str, config: Config) -> socket.socket:
        """Where a companion listens: on any free port, or where its upstream is said to be."""
        upstream = load_config(None, {}, preset=self.preset).upstreams.get(name)
        for target in upstream.targets if self.system.direct and upstream is not None else ():
            found = urlsplit(target)
            if found.hostname in _HERE and found.port not in (None, config.server.port):
                with contextlib.suppress(OSError):
                    return socket.create_server((_LOOPBACK, found.port))
        return socket.create_server((_LOOPBACK, 0))

    def _wanted(self, config: Config) -> Iterator[tuple[str, Companion]]:
        named = self._strangers(config)
        for name, companion in self.system.companions.items():
            if name not in named and not companion.missing():
                yield name, companion

    def _strangers(self, config: Config) -> set[str]:
        """The upstreams whose addresses, or brokers, the environment names."""
        plain = load_config(None, {}, preset=self.preset).upstreams
        return {
            name
            for name, it in config.upstreams.items()
            if name not in plain
            or (it.targets, it.kafka.bootstrap_servers) != (plain[name].targets, plain[name].kafka.bootstrap_servers)
        }


def _surroundings(
    config: Config, folder: Path, environ: Mapping[str, str], listeners: Mapping[str, socket.socket]
) -> Surroundings:
    host = _LOOPBACK if config.server.host in ("0.0.0.0", "::") else config.server.host  # noqa: S104
    return Surroundings(
        folder=folder,
        environ=environ,
        gateway_url=f"http://{host}:{config.server.port}",
        urls={name: f"http://{_LOOPBACK}:{it.getsockname()[1]}" for name, it in listeners.items()},
        secret=config.auth.secret.get_secret_value(),
        key=secrets.token_urlsafe(32),
    )


def _in_front_of(config: Config, around: Surroundings, strangers: set[str]) -> Config:
    """The configuration with the companions' addresses, and 501 for upstreams that are nobody's.

    Generations that only those could make are taken out.
    """
    upstreams = {name: _placed(name, it, around, name in strangers) for name, it in config.upstreams.items()}
    kinds = {kind: it for kind, it in config.generations.kinds.items() if upstreams[it.upstream].set_up}
    code = config.served.code
    code = code.model_copy(update={"enabled": code.enabled and set(code.kinds) <= set(kinds)})
    keys = (*config.server_api.keys, SecretStr(around.key))
    changed = {
        "upstreams": upstreams,
        "server_api": config.server_api.model_copy(update={"keys": keys}),
        "generations": config.generations.model_copy(update={"kinds": kinds}),
        "served": config.served.model_copy(update={"code": code}),
    }
    return config.model_copy(update=changed)


def _placed(name: str, upstream: UpstreamConfig, around: Surroundings, stranger: bool) -> UpstreamConfig:
    if stranger:
        return upstream
    targets = (around.urls[name],) if name in around.urls else ()
    changed = {"targets": targets, "optional": not targets, "kafka": type(upstream.kafka)()}
    return upstream.model_copy(update=changed)


class _Gateway(uvicorn.Server):
    """A server that says that it is there."""

    def __init__(self, config: uvicorn.Config, words: str) -> None:
        super().__init__(config)
        self._words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._words, flush=True)


class _Companion(uvicorn.Server):
    """A server beside another one, which alone handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _serve(config: Config, companions: list[tuple[Any, socket.socket]], words: str) -> None:
    gateway = _Gateway(uvicorn_config(config), words)
    for number in (signal.SIGINT, signal.SIGTERM):
        # At its end uvicorn raises again what it caught; that would end the process before the services ended.
        signal.signal(number, lambda *_: None)
    with asyncio.Runner(loop_factory=gateway.config.get_loop_factory()) as runner:
        runner.run(_together(gateway, companions))


def _companion_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=3)


async def _together(gateway: uvicorn.Server, companions: list[tuple[Any, socket.socket]]) -> None:
    services = [(_Companion(_companion_config(app)), listener) for app, listener in companions]
    async with asyncio.TaskGroup() as group:
        for service, listener in services:
            group.create_task(service.serve([listener]))
        await gateway.serve()
        for service, _ in services:
            service.should_exit = True
