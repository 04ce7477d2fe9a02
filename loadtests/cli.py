"""``tidegate-load``: replays recorded sessions against a gateway, and judges what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from loadtests.capture.commands import error_line, import_, load_clean, record, snippet
from loadtests.replay.asked import Asked, taking
from loadtests.replay.beforehand import refuse_silent, refuse_unwritable
from loadtests.replay.crew import Crew, CrewFailed
from loadtests.replay.live import View, show
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
@taking
def replay(asked: Asked) -> None:
    """Play a session as many users at once.

    Examples:

    - `tidegate-load replay s.jsonl --url ws://127.0.0.1:8080/api/v1/ws --jwt-secret "$SECRET" -n 1000 --ramp 30s`

    - `tidegate-load replay s.jsonl --url ws://a/api/v1/ws --url ws://b/api/v1/ws --drop-every 15s --offline 2s
      --loop --duration 10m --fail-if 'lost>0' --fail-if 'added_p99>50ms' --html report.html`

    - `tidegate-load replay s.jsonl --with-producer -n 200 --pace gated --slow 5%@1KB/s --storm 20s`
    """
    told = _checked(load_clean, asked.session, allow_secrets=asked.allow_secrets).header.url
    options, conditions = _checked(asked.options, told), _checked(asked.conditions)
    restarts = _checked(asked.restarts)
    _checked(refuse_unwritable, [asked.json_, asked.html])
    _checked(refuse_silent, options.urls)
    with View(Console(stderr=True), quiet=asked.quiet) as view:
        crew = Crew(options, ServerWatch(asked.server_pid or [], asked.metrics or []), restarts, view.told)
        try:
            outcome = crew.run(asked.producer_port if asked.with_producer else None)
        except CrewFailed as error:
            raise _stop(str(error)) from None
    verdict = make_verdict(options, outcome)
    if asked.json_ is not None:
        asked.json_.write_bytes(orjson.dumps(verdict, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    if asked.html is not None:
        asked.html.write_text(write_report(verdict, asked.session.name), encoding="utf-8")
    show(_OUT, verdict)
    _judge(verdict, conditions, allow_void=asked.allow_void)


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
    _checked(html.write_text, write_report(_read(file), file.stem), encoding="utf-8")


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
    except OSError as error:
        raise _stop(error_line(error)) from None
    except (BadCondition, BadSession, ValueError) as error:
        raise _stop(str(error)) from None


def _stop(text: str) -> typer.Exit:
    Console(stderr=True).print(f"tidegate-load: {text}", markup=False, highlight=False)
    return typer.Exit(_WRONG)
