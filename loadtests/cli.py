"""``tidegate-load``: replays recorded sessions against a gateway, and judges what comes back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from loadtests.capture.commands import import_, load_clean, record, snippet
from loadtests.replay import options as parsing
from loadtests.replay.crew import Crew, CrewFailed, Restart
from loadtests.replay.live import View, show
from loadtests.replay.opening import Address
from loadtests.replay.options import Options
from loadtests.replay.plan import make_plan
from loadtests.replay.producer import Producer, serve
from loadtests.replay.report import write_report
from loadtests.replay.server_watch import ServerWatch
from loadtests.replay.verdict import BadCondition, Condition, Verdict, compare, failing, make_verdict, read_condition
from loadtests.session_format import BadSession

__all__ = ["app", "main"]

app = typer.Typer(
    name="tidegate-load",
    help="Replay recorded sessions against a gateway, break things meanwhile, and keep the books.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
)
_OUT = Console()
_FAILED, _VOID, _WRONG = 1, 3, 2
"""Exit statuses: a condition holds, the run is void, the command is wrong."""
T = TypeVar("T")


def main() -> None:
    """Run the command."""
    app()


app.command(name="import")(import_)
app.command()(record)
app.command()(snippet)


@app.command()
def replay(
    session: Annotated[Path, typer.Argument(help="A recorded session (docs/load-testing.md).")],
    url: Annotated[list[str] | None, typer.Option(help="ws:// or wss:// of a replica; several: users take turns, and come back on the next. Default: the recorded one.")] = None,
    clients: Annotated[int, typer.Option("--clients", "-n", min=1, help="Virtual users.")] = 1,
    ramp: Annotated[str, typer.Option(help="Time over which they start.")] = "0s",
    speed: Annotated[float, typer.Option(min=0.001, help="How many times as fast as recorded.")] = 1.0,
    pace: Annotated[str, typer.Option(help="recorded: at the recorded times, whatever the server does. gated: after what was answered before, and the recorded thinking. asap: the same without thinking.")] = "recorded",
    loop: Annotated[bool, typer.Option("--loop", help="Begin again at the end, until --duration is over or Ctrl-C.")] = False,
    duration: Annotated[str | None, typer.Option(help="Stop after this time.")] = None,
    map_: Annotated[str, typer.Option("--map", help="one: all users in the recorded channels. each: a channel of its own for each.")] = "one",
    processes: Annotated[int, typer.Option(min=1, help="Processes that the users are spread over; about a core each.")] = 1,
    settle: Annotated[str, typer.Option(help="How long a user waits at its end for what is still to come.")] = "10s",
    connect_timeout: Annotated[str, typer.Option(help="How long a socket may take until it is signed in.")] = "10s",
    jwt_secret: Annotated[str | None, typer.Option(envvar="TIDEGATE_LOAD_JWT_SECRET", help="HS256 secret: a token is minted for each user.")] = None,
    claims: Annotated[str, typer.Option(help="JSON object of more claims for minted tokens.")] = "{}",
    token_command: Annotated[str | None, typer.Option(help="Prints a token; {user} is put in.")] = None,
    tokens_csv: Annotated[str | None, typer.Option("--tokens-csv", help="File of user,token lines, one for each user.")] = None,
    token_ttl: Annotated[str, typer.Option(help="How long minted tokens live; they are refreshed when the gateway says so.")] = "1h",
    refresh: Annotated[bool, typer.Option(help="Whether tokens are refreshed in time, or expire.")] = True,
    user: Annotated[str, typer.Option(help="The users' names; {vu} is the number.")] = "load-{vu}",
    header: Annotated[list[str] | None, typer.Option(help="Name: value, for the handshakes.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any TLS certificate.")] = False,
    rest: Annotated[bool, typer.Option(help="Whether recorded REST calls are made.")] = True,
    rest_url: Annotated[str | None, typer.Option(help="Where to. Default: the first --url.")] = None,
    drop_every: Annotated[str | None, typer.Option(help="Break each socket about that often (a reset, no close frame).")] = None,
    offline: Annotated[str, typer.Option(help="How long a user stays away then.")] = "1s",
    storm: Annotated[list[str] | None, typer.Option(help="Break all sockets at this time. May be repeated.")] = None,
    slow: Annotated[str | None, typer.Option(help="Some read slowly: 5%@1KB/s.")] = None,
    restart_command: Annotated[list[str] | None, typer.Option(help="Restarts a replica; run at the --restart-at of the same place.")] = None,
    restart_at: Annotated[list[str] | None, typer.Option(help="When.")] = None,
    with_producer: Annotated[bool, typer.Option("--with-producer", help="Play the recorded server's side as an upstream on --producer-port.")] = False,
    producer_port: Annotated[int, typer.Option(help="Its port on the loopback address.")] = 9190,
    server_pid: Annotated[list[int] | None, typer.Option(help="Watch a server's CPU and memory.")] = None,
    metrics: Annotated[list[str] | None, typer.Option(help="The same from a Prometheus page.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write the verdict here.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a report here: one page, nothing else needed.")] = None,
    fail_if: Annotated[list[str] | None, typer.Option(help="lost>0, added_p99>50ms, delivered<99.9%: exit with 1. May be repeated.")] = None,
    allow_void: Annotated[bool, typer.Option("--allow-void", help="Exit with 0 also where the figures can't be trusted.")] = False,
    allow_secrets: Annotated[bool, typer.Option("--allow-secrets", help="Take a session also if secrets are in it.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing while it runs.")] = False,
) -> None:  # fmt: skip
    """Play a session as many users at once.

    Examples:

    - `tidegate-load replay s.jsonl --url ws://127.0.0.1:8080/api/v1/ws --jwt-secret "$SECRET" -n 1000 --ramp 30s`

    - `tidegate-load replay s.jsonl --url ws://a/api/v1/ws --url ws://b/api/v1/ws --drop-every 15s --offline 2s
      --loop --duration 10m --fail-if 'lost>0' --fail-if 'added_p99>50ms' --html report.html`

    - `tidegate-load replay s.jsonl --with-producer -n 200 --pace gated --slow 5%@1KB/s --storm 20s`
    """
    told = _checked(load_clean, session, allow_secrets=allow_secrets).header.url
    options = _checked(
        Options,
        session=str(session), urls=url or [told], clients=clients, ramp=_seconds(ramp), speed=speed,
        pace=_choice(pace, ("recorded", "gated", "asap")), loop=loop,
        duration=None if duration is None else _seconds(duration), mapping=_choice(map_, ("one", "each")),
        processes=min(processes, clients), settle=_seconds(settle), connect_timeout=_seconds(connect_timeout), rest=rest, rest_url=rest_url,
        headers=dict(_pair(each) for each in header or ()), insecure=insecure, jwt_secret=jwt_secret,
        claims=_checked(json.loads, claims), token_command=token_command, tokens_csv=tokens_csv,
        token_ttl=_seconds(token_ttl), refresh=refresh, user=user,
        drop_every=None if drop_every is None else _seconds(drop_every), offline=_seconds(offline),
        storms=[_seconds(each) for each in storm or ()],
        slow=None if slow is None else _checked(parsing.slow, slow), marks=with_producer,
    )  # fmt: skip
    for each in options.urls:
        _checked(Address.parse, each)
    conditions = [_checked(read_condition, each) for each in fail_if or ()]
    if len(restart_command or ()) != len(restart_at or ()):
        raise typer.BadParameter("--restart-command and --restart-at belong together, as often each")
    pairs = zip(restart_command or (), restart_at or (), strict=True)
    restarts = [Restart(command, _seconds(at)) for command, at in pairs]
    with View(Console(stderr=True), quiet=quiet) as view:
        crew = Crew(options, ServerWatch(server_pid or [], metrics or []), restarts, view.told)
        try:
            outcome = crew.run(producer_port if with_producer else None)
        except CrewFailed as error:
            raise _stop(str(error)) from None
    verdict = make_verdict(options, outcome)
    if json_ is not None:
        json_.write_bytes(orjson.dumps(verdict, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    if html is not None:
        html.write_text(write_report(verdict, session.name), encoding="utf-8")
    show(_OUT, verdict)
    _judge(verdict, conditions, allow_void=allow_void)


@app.command(name="verdict")
def verdict_command(
    file: Annotated[Path, typer.Argument(help="What --json wrote.")],
    fail_if: Annotated[list[str] | None, typer.Option(help="As of replay.")] = None,
    allow_void: Annotated[bool, typer.Option("--allow-void")] = False,
) -> None:
    """Show a verdict again, and judge it by other conditions.

    Example: `tidegate-load verdict run.json --fail-if 'reconnect_p99>2s'`
    """
    conditions = [_checked(read_condition, each) for each in fail_if or ()]
    verdict = _read(file)
    show(_OUT, verdict)
    _judge(verdict, conditions, allow_void=allow_void)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="What --json wrote.")],
    html: Annotated[Path, typer.Argument(help="The page to write.")],
) -> None:
    """Write the report of a verdict: one page with its plots.

    Example: `tidegate-load report run.json run.html`
    """
    html.write_text(write_report(_read(file), file.stem), encoding="utf-8")


@app.command(name="compare")
def compare_command(
    baseline: Annotated[Path, typer.Argument(help="An earlier verdict.")],
    file: Annotated[Path, typer.Argument(help="The verdict to compare.")],
    tolerance: Annotated[float, typer.Option(min=0.0, help="Share by which times may grow.")] = 0.2,
) -> None:
    """Compare two verdicts; exit with 1 where the second is worse.

    Example: `tidegate-load compare main.json branch.json --tolerance 0.3`
    """
    before, now = _read(baseline), _read(file)
    table = Table("figure", "before", "now", "")
    rows = compare(now, before, tolerance)
    for name, one, other, worse in rows:
        table.add_row(name, f"{one:,.2f}", f"{other:,.2f}", "worse" if worse else "")
    _OUT.print(table, highlight=False)
    if not (before.get("valid") and now.get("valid")):
        _OUT.print("VOID: one of the two can't be trusted", highlight=False)
        raise typer.Exit(_VOID)
    raise typer.Exit(_FAILED if any(worse for *_, worse in rows) else 0)


@app.command()
def producer(
    session: Annotated[Path, typer.Argument(help="A recorded session.")],
    port: Annotated[int, typer.Option(help="On the loopback address, unless --host says otherwise.")] = 9190,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    speed: Annotated[float, typer.Option(min=0.001, help="How many times as fast as recorded.")] = 1.0,
    marks: Annotated[bool, typer.Option(help="Whether each token carries its time.")] = True,
    allow_secrets: Annotated[bool, typer.Option("--allow-secrets", help="As of replay.")] = False,
) -> None:
    """Serve the recorded texts as an OpenAI-compatible upstream, until stopped.

    Example: `tidegate-load producer s.jsonl --port 9190`
    """
    plan = make_plan(_checked(load_clean, session, allow_secrets=allow_secrets))
    _OUT.print(f"http://{host}:{port} streams {len(plan.streams)} recorded answers", highlight=False)
    with contextlib.suppress(KeyboardInterrupt):
        _checked(serve, Producer(plan, speed, marks=marks), host, port)


def _judge(verdict: Verdict, conditions: list[Condition], *, allow_void: bool) -> None:
    """End with the exit status that a verdict deserves."""
    found = _checked(failing, verdict, conditions)
    for each in found:
        _OUT.print(f"FAILED: {each}", markup=False, highlight=False)
    if found:
        raise typer.Exit(_FAILED)
    if not verdict.get("valid") and not allow_void:
        raise typer.Exit(_VOID)


def _read(file: Path) -> Verdict:
    try:
        value: Any = orjson.loads(_checked(file.read_bytes))
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or value.get("tidegate_verdict") != 1:
        raise _stop(f"{file} is no verdict")
    return value


def _checked(make: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call ``make``; what it refuses ends the command in one line."""
    try:
        return make(*arguments, **named)
    except (BadCondition, BadSession, OSError, ValueError) as error:
        raise _stop(str(error)) from None


def _stop(text: str) -> typer.Exit:
    Console(stderr=True).print(f"tidegate-load: {text}", markup=False, highlight=False)
    return typer.Exit(_WRONG)


def _seconds(text: str) -> float:
    return _checked(parsing.duration, text)


def _choice(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(allowed)}")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"{text!r} is no header: Name: value")
    return name.strip(), value.strip()
