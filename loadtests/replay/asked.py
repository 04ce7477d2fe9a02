"""What ``tidegate-load replay`` is told on its command line: each field of :class:`Asked` is one of its options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer

from loadtests.replay import options as parsing
from loadtests.replay.crew import Restart
from loadtests.replay.opening import Address
from loadtests.replay.options import Mapping, Options, Pace
from loadtests.replay.verdict import Condition, read_condition

__all__ = ["Asked", "taking"]


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """As it was written. The methods raise :exc:`ValueError` and :exc:`BadCondition` for what can't be meant."""

    session: Annotated[Path, typer.Argument(help="A recorded session (docs/load-testing.md).")]
    url: Annotated[list[str] | None, typer.Option(help="ws:// or wss:// of a replica; several: users take turns, and come back on the next. Default: the recorded one.")] = None
    clients: Annotated[int, typer.Option("--clients", "-n", min=1, help="Virtual users.")] = 1
    ramp: Annotated[str, typer.Option(help="Time over which they start.")] = "0s"
    speed: Annotated[float, typer.Option(min=0.001, help="How many times as fast as recorded.")] = 1.0
    pace: Annotated[str, typer.Option(help="recorded: at the recorded times, whatever the server does. gated: after what was answered before, and the recorded thinking. asap: the same without thinking.")] = "recorded"
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, until --duration is over or Ctrl-C.")] = False
    duration: Annotated[str | None, typer.Option(help="Stop after this time.")] = None
    map_: Annotated[str, typer.Option("--map", help="one: all users in the recorded channels. each: a channel of its own for each.")] = "one"
    processes: Annotated[int, typer.Option(min=1, help="Processes that the users are spread over; about a core each.")] = 1
    settle: Annotated[str, typer.Option(help="How long a user waits at its end for what is still to come.")] = "10s"
    connect_timeout: Annotated[str, typer.Option(help="How long a socket may take until it is signed in.")] = "10s"
    jwt_secret: Annotated[str | None, typer.Option(envvar="TIDEGATE_LOAD_JWT_SECRET", help="HS256 secret: a token is minted for each user.")] = None
    claims: Annotated[str, typer.Option(help="JSON object of more claims for minted tokens.")] = "{}"
    token_command: Annotated[str | None, typer.Option(help="Prints a token; {user} is put in.")] = None
    tokens_csv: Annotated[str | None, typer.Option("--tokens-csv", help="File of user,token lines, one for each user.")] = None
    token_ttl: Annotated[str, typer.Option(help="How long minted tokens live; they are refreshed when the gateway says so.")] = "1h"
    refresh: Annotated[bool, typer.Option(help="Whether tokens are refreshed in time, or expire.")] = True
    user: Annotated[str, typer.Option(help="The users' names; {vu} is the number.")] = "load-{vu}"
    header: Annotated[list[str] | None, typer.Option(help="Name: value, for the handshakes.")] = None
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any TLS certificate.")] = False
    rest: Annotated[bool, typer.Option(help="Whether recorded REST calls are made.")] = True
    rest_url: Annotated[str | None, typer.Option(help="Where to. Default: the first --url.")] = None
    drop_every: Annotated[str | None, typer.Option(help="Break each socket about that often (a reset, no close frame).")] = None
    offline: Annotated[str, typer.Option(help="How long a user stays away then.")] = "1s"
    storm: Annotated[list[str] | None, typer.Option(help="Break all sockets at this time. May be repeated.")] = None
    slow: Annotated[str | None, typer.Option(help="Some read slowly: 5%@1KB/s.")] = None
    restart_command: Annotated[list[str] | None, typer.Option(help="Restarts a replica; run at the --restart-at of the same place.")] = None
    restart_at: Annotated[list[str] | None, typer.Option(help="When.")] = None
    with_producer: Annotated[bool, typer.Option("--with-producer", help="Play the recorded server's side as an upstream on --producer-port.")] = False
    producer_port: Annotated[int, typer.Option(help="Its port on the loopback address.")] = 9190
    server_pid: Annotated[list[int] | None, typer.Option(help="Watch a server's CPU and memory.")] = None
    metrics: Annotated[list[str] | None, typer.Option(help="The same from a Prometheus page.")] = None
    json_: Annotated[Path | None, typer.Option("--json", help="Write the verdict here.")] = None
    html: Annotated[Path | None, typer.Option("--html", help="Write a report here: one page, nothing else needed.")] = None
    fail_if: Annotated[list[str] | None, typer.Option(help="lost>0, added_p99>50ms, delivered<99.9%: exit with 1. May be repeated.")] = None
    allow_void: Annotated[bool, typer.Option("--allow-void", help="Exit with 0 also where the figures can't be trusted.")] = False
    allow_secrets: Annotated[bool, typer.Option("--allow-secrets", help="Take a session also if secrets are in it.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing while it runs.")] = False
    # fmt: on

    def options(self, recorded_url: str) -> Options:
        """Return what a replay is told. ``recorded_url`` is where to if nothing was said."""
        urls = self.url or [recorded_url]
        for each in urls:
            Address.parse(each)
        seconds = parsing.duration
        return Options(
            session=str(self.session), urls=urls, clients=self.clients, ramp=seconds(self.ramp), speed=self.speed,
            pace=cast(Pace, _choice(self.pace, get_args(Pace))), loop=self.loop, duration=_perhaps(self.duration),
            mapping=cast(Mapping, _choice(self.map_, get_args(Mapping))), processes=min(self.processes, self.clients),
            settle=seconds(self.settle), connect_timeout=seconds(self.connect_timeout), rest=self.rest,
            rest_url=self.rest_url, headers=dict(_pair(each) for each in self.header or ()), insecure=self.insecure,
            jwt_secret=self.jwt_secret, claims=json.loads(self.claims), token_command=self.token_command,
            tokens_csv=self.tokens_csv, token_ttl=seconds(self.token_ttl), refresh=self.refresh, user=self.user,
            drop_every=_perhaps(self.drop_every), offline=seconds(self.offline),
            storms=[seconds(each) for each in self.storm or ()],
            slow=None if self.slow is None else parsing.slow(self.slow), marks=self.with_producer,
        )  # fmt: skip

    def conditions(self) -> list[Condition]:
        """Return what makes it fail."""
        return [read_condition(each) for each in self.fail_if or ()]

    def restarts(self) -> list[Restart]:
        """Return which commands restart replicas, and when."""
        commands, times = self.restart_command or (), self.restart_at or ()
        if len(commands) != len(times):
            raise ValueError("--restart-command and --restart-at belong together, as often each")
        return [Restart(command, parsing.duration(at)) for command, at in zip(commands, times, strict=True)]


def taking(command: Callable[[Asked], None]) -> Callable[..., None]:
    """Return a command whose parameters are the fields of :class:`Asked`."""

    def told(**values: Any) -> None:
        command(Asked(**values))

    told.__doc__, told.__name__ = command.__doc__, command.__name__
    signature, meant = inspect.signature(Asked), get_type_hints(Asked, include_extras=True)
    parameters = [each.replace(annotation=meant[name]) for name, each in signature.parameters.items()]
    told.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # typer looks for it
    told.__annotations__ = get_type_hints(Asked)
    return told


def _perhaps(text: str | None) -> float | None:
    return None if text is None else parsing.duration(text)


def _choice(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is no header: Name: value")
    return name.strip(), value.strip()
