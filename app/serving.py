"""Running the gateway: uvicorn set up as sockets and proxying need it, in one process or several."""

from __future__ import annotations

import contextlib
import errno
import gc
import math
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import structlog
import uvicorn
from pydantic import SecretStr
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.composition.rehearsal import refuse_unusable
from app.composition.server_connection import ServerConnection
from app.config import Config, Source, dotted
from app.errors import ConfigError, TidegateError
from app.main import create_app
from app.observe.logs import configure_logging
from app.observe.pidfile import pid_file
from app.ws.connection import Connection

__all__ = ["refuse_taken_port", "serve", "uvicorn_config"]

_BACKLOG = 65_535
"""Connections that may wait to be accepted; the system caps it (net.core.somaxconn). When thousands of sockets come
back at once, one that finds no room is tried again by its own system after 1, 3, 7, 15 seconds."""
_COLLECTIONS = (50_000, 2, 20)
"""When the garbage collector looks, in objects and in its own passes. Thousands of sockets that come at once are a
million objects that stay: with Python's own (700, 10, 10) a tenth of their cost is looking at them, all at once for a
tenth of a second and more. A thousand requests at once are 25,000 objects, most of them gone in milliseconds: a bound
below that has it look at them again and again. What goes leaves it nothing to do: sockets and requests end without
cycles."""
_PATIENCE = 60
"""Seconds that a worker may be silent: with uvicorn's five a busy machine would never get one started."""
_log = structlog.get_logger(__name__)


def uvicorn_config(
    config: Config, *, alone: bool = False, source: Source | None = None, folder: Path | None = None
) -> uvicorn.Config:
    """Return the set-up of one server; ``alone`` when it has its process for itself.

    With a ``source`` it reads its configuration again on SIGHUP. ``folder`` is where several processes meet.

    Deflate is off (it triples a socket's memory), logs are ours (uvicorn's name paths with their queries), and
    forwarded headers are read by nobody but the proxy.
    """
    return uvicorn.Config(
        partial(_application, config, alone, source, folder),
        factory=True,
        host=config.server.host,
        port=config.server.port,
        workers=config.server.workers,
        backlog=_BACKLOG,
        loop="app.composition.event_loop:EventLoop",
        http=ServerConnection,
        ws=Connection,
        ws_max_size=config.realtime.max_message,
        ws_ping_interval=config.realtime.ping_interval,
        ws_ping_timeout=config.realtime.pong_timeout,
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_worker_healthcheck=_PATIENCE,
        timeout_graceful_shutdown=math.ceil(config.server.stop_timeout),
    )


def _application(config: Config, alone: bool, source: Source | None, folder: Path | None) -> object:
    if alone:
        configure_logging(config.server.log_level, config.server.log_format)  # A worker is a new process.
    if source is not None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Until the parts are there: it would end the process.
        with contextlib.suppress(ConfigError):  # A worker that takes another's place starts with what counts now.
            config = source.reload(config).config
    application = create_app(config, source, folder)
    if alone:
        # All that is there by now stays: at each pass the collector would look at it in vain, for milliseconds.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECTIONS)
    return application


def refuse_taken_port(config: Config) -> None:
    """Raise :exc:`~app.errors.TidegateError` where the gateway cannot listen, with the cure."""
    host, port = config.server.host, config.server.port
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise TidegateError(f"cannot listen on {host}:{port}: {_why(error)}") from None


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program does. Stop it, or choose another port with --port (server.port)."
        case errno.EACCES:
            return "ports below 1024 are for root alone. Choose another one with --port (server.port)."
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address. Set server.host to one that it has, or to 0.0.0.0 for all."
    return f"{error.strerror}. Set server.host and server.port."


def serve(config: Config, source: Source | None = None) -> None:
    """Run until SIGINT or SIGTERM. Several workers share the port and, without a Redis, an embedded Valkey.

    On SIGHUP the configuration is read again from ``source``. Raises :exc:`~app.errors.TidegateError` when it could not
    be started.
    """
    refuse_taken_port(config)
    configure_logging(config.server.log_level, config.server.log_format)
    refuse_unusable(config)
    for key in config.known_secrets():
        _log.critical("this secret is known to everybody: set your own before others can reach the gateway",
                      setting=dotted(key))  # fmt: skip
    with _pid_file(config), _broker(config) as settled, _meeting_place(config) as folder:
        setup = uvicorn_config(settled, alone=True, source=source, folder=folder)
        _run(setup)


def _run(setup: uvicorn.Config) -> None:
    """uvicorn exits by itself where one server does not start, and with 0 where several don't."""
    failed = False
    if setup.workers == 1:
        try:
            uvicorn.Server(setup).run()
        except SystemExit:
            failed = True
    else:
        workers = _Workers(setup, sockets=[setup.bind_socket()])
        workers.run()
        failed = any(process.exitcode == STARTUP_FAILURE for process in workers.processes)
    if failed:
        raise TidegateError("the gateway could not be started. The log above says why.")


@contextlib.contextmanager
def _meeting_place(config: Config) -> Iterator[Path | None]:
    """A new folder in which several processes tell each other what they have measured; None for a single one."""
    if config.server.workers == 1:
        yield None
        return
    # The path of a socket in it may have no more than some hundred bytes.
    place = None if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108 (a private folder is made in it)
    with tempfile.TemporaryDirectory(prefix="tidegate-figures-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class _Workers(Multiprocess):
    """Several processes. uvicorn would start new ones on SIGHUP; these read their configuration again."""

    def init_processes(self) -> None:
        super().init_processes()
        self._leave_their_ends()

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        self._leave_their_ends()

    def _leave_their_ends(self) -> None:
        """Close here what is the workers' end of their pipes.

        With a second end open nobody would see that a worker has died while it was asked whether it lives: the others,
        and every signal, would wait until it should have answered.
        """
        for process in self.processes:
            process.child_conn.close()

    def handle_hup(self) -> None:
        for process in self.processes:
            # One that has just begun may have read the file before it changed.
            if process.wait_until_ready(self.config.timeout_worker_healthcheck, self.should_exit):
                assert process.pid is not None, "it answered"
                os.kill(process.pid, signal.SIGHUP)


def _pid_file(config: Config) -> contextlib.AbstractContextManager[None]:
    path = config.server.pid_file
    return contextlib.nullcontext() if path is None else pid_file(Path(path))


@contextlib.contextmanager
def _broker(config: Config) -> Iterator[Config]:
    """Give ``config`` an embedded Valkey for as long as it runs, if it wants one or its workers must share a log."""
    if config.broker.shared or not (config.broker.embedded or config.server.workers > 1):
        yield config
        return
    from app.streams.redis.embedded import EmbeddedValkey  # noqa: PLC0415  (one worker needs none)

    with EmbeddedValkey() as valkey:
        broker = config.broker.model_copy(update={"redis_url": SecretStr(valkey.url)})
        yield config.model_copy(update={"broker": broker})
