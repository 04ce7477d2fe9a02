"""The commands. What they do is elsewhere: here are their options, their words, and their exit codes.

0 is success, 1 a failure while running, 2 a wrong command line or configuration.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from app.auth.development import mint
from app.cli.chat import ask
from app.cli.checking import show, show_presets, show_routes
from app.cli.conversation import Conversation, ConversationFailed, End
from app.cli.draining import DrainFailed, drain_timeout
from app.cli.draining import drain as run_drain
from app.cli.events import application as events
from app.config import AuthConfig, IssuerConfig, Source, load_config
from app.errors import ConfigError, TidegateError

__all__ = ["main"]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

application = typer.Typer(
    name="tidegate",
    help="A WebSocket-first real-time gateway for AI products.",
    epilog="Try it: tidegate demo, and in another terminal: tidegate chat Hello",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

application.add_typer(events, name="events")

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="The TOML file; without it the defaults count.")
]
Preset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A configuration that comes with tidegate; the file is laid over it."),
]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    try:
        application(arguments, prog_name="tidegate")
    except ConfigError as error:
        _fail(error.message, 2)
    except (TidegateError, ConversationFailed, DrainFailed) as error:
        _fail(str(error), 1)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    print(f"tidegate: {message}", file=sys.stderr)
    sys.exit(status)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("tidegate")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        print(f"tidegate {version}")
        raise typer.Exit


@application.callback()
def _global_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@application.command(
    epilog="Example: tidegate serve --config gateway.toml --port 8080 --workers 2, or: tidegate serve --preset nyro"
)
def serve(
    config: ConfigFile = None,
    preset: Preset = None,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides server.port.")] = None,
    workers: Annotated[int | None, typer.Option(help="Overrides server.workers.")] = None,
    redis_url: Annotated[str | None, typer.Option(metavar="URL", help="Overrides broker.redis_url.")] = None,
) -> None:
    """Run the gateway."""
    flags = {"server.host": host, "server.port": port, "server.workers": workers, "broker.redis_url": redis_url}
    load = partial(load_config, config, dict(os.environ), flags, preset)
    loaded = load()
    from app.serving import serve as run  # noqa: PLC0415  (the other commands start faster without it)

    run(loaded, Source(load, loaded))


@application.command(epilog="Example: tidegate demo --port 9000, or: tidegate demo --preset llm-platform")
def demo(
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="The system; those that there are: tidegate presets.")
    ] = "demo",
    port: Annotated[int | None, typer.Option(help="Overrides server.port.")] = None,
) -> None:
    """Run a preset's gateway and the services behind it in one process, with nothing else needed."""
    from app.demo import run  # noqa: PLC0415

    run(preset, os.environ, port)


@application.command(epilog="Example: tidegate check --config gateway.toml")
def check(config: ConfigFile = None, preset: Preset = None) -> None:
    """Say whether the configuration is right, and where requests would go."""
    try:
        loaded = load_config(config, os.environ, preset=preset)
        show(loaded, _origin(config, preset))
    except ConfigError as error:
        _fail(error.message, 1)


@application.command(epilog="Example: tidegate routes --config gateway.toml")
def routes(config: ConfigFile = None, preset: Preset = None) -> None:
    """Print which requests are passed on, what they need, and where they go."""
    loaded = load_config(config, os.environ, preset=preset)
    show_routes(loaded, _origin(config, preset))


@application.command(epilog="Example: tidegate presets, and then: tidegate serve --preset llm-platform")
def presets() -> None:
    """List the configurations that come with tidegate."""
    show_presets()


@application.command(epilog="Example: TOKEN=$(tidegate token --sub 42 --company acme --ttl 8h)")
def token(
    sub: Annotated[str, typer.Option(metavar="USER", help="Who the token is for.")],
    company: Annotated[str | None, typer.Option(help="The user's company.")] = None,
    ttl: Annotated[str, typer.Option(help="How long it lives: 90s, 15m, 1h, 7d.")] = "1h",
    email: Annotated[str | None, typer.Option(help="The user's e-mail address.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role of the user. Can be given several times.")] = None,
    config: ConfigFile = None,
    preset: Preset = None,
) -> None:
    """Print a token for development, signed with the configuration's shared secret."""
    if not sub.strip():
        raise typer.BadParameter("is empty. Name a user: --sub 42", param_hint="--sub")
    auth = load_config(config, os.environ, preset=preset).auth
    issuer = _signer(auth)
    secret = issuer.secret.get_secret_value()
    print(mint(secret, sub, company, _seconds(ttl), email, roles=role or (), auth=issuer))


@application.command(
    epilog='Example: tidegate chat "What is light?" --url ws://127.0.0.1:8080, or: tidegate chat Hello --preset nyro '
    "--company acme --kind ask"
)
def chat(
    message: Annotated[str, typer.Argument(help="What to ask.")],
    url: Annotated[
        str | None, typer.Option(help="The gateway; without it, this machine, at its configuration's port.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="TIDEGATE_TOKEN", help="Without it, one is made as the gateway's configuration has it."),
    ] = None,
    company: Annotated[str | None, typer.Option(help="The company in a token that is made.")] = None,
    config: ConfigFile = None,
    preset: Preset = None,
    model: Annotated[str | None, typer.Option(help="The model to ask for.")] = None,
    kind: Annotated[str, typer.Option(help="The kind of generation, as the configuration names it.")] = "chat",
) -> None:
    """Ask, and print the answer as it comes. Resumes by itself when the connection drops; Ctrl-C cancels."""
    loaded = load_config(config, os.environ, preset=preset)
    if url is None:
        url = f"ws://127.0.0.1:{loaded.server.port}"
    if token is None:
        issuer = _signer(loaded.auth)
        token = mint(issuer.secret.get_secret_value(), "tidegate-chat", company, auth=issuer)
    end = asyncio.run(ask(Conversation(message, model, kind), url, token, sys.stdout, sys.stderr))
    _report(end)


@application.command(epilog="Example: tidegate drain --config gateway.toml")
def drain(
    config: ConfigFile = None,
    preset: Preset = None,
    pid_file: Annotated[Path | None, typer.Option(help="The running gateway's server.pid_file.")] = None,
    pid: Annotated[
        int | None, typer.Option(help="The gateway's process; of several workers, that which started them.", min=1)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds to wait; without it, what the configuration allows.")
    ] = None,
) -> None:
    """Stop a running gateway as SIGTERM does, and wait until its sockets and generations have gone."""
    server = load_config(config, os.environ, preset=preset).server
    file = pid_file or (Path(server.pid_file) if server.pid_file else None)
    if file is None and pid is None:
        raise ConfigError("which gateway? Set server.pid_file for it and here, or name its process with --pid.")
    run_drain(pid, file, drain_timeout(server) if timeout is None else timeout, sys.stdout)


def _origin(config: Path | None, preset: str | None) -> str:
    """Return where a configuration came from, in words."""
    named = [str(config)] if config else []
    if preset:
        named.append(f"the preset {preset}")
    return " over ".join(named) or "the configuration"


def _report(end: End) -> None:
    words = {"completed": "Complete.", "failed": f"Failed: {end.why}", "cancelled": f"Cancelled {end.why}."}
    proof = (
        f"{end.characters} characters, and their SHA-256 is that of the gateway's receipt."
        if end.proven
        else "The text is NOT that of the gateway's receipt: something was lost or doubled."
    )
    print(f"\n{words[end.status]} {proof}", file=sys.stderr)
    if not end.proven or end.status == "failed":
        raise typer.Exit(1)
    if end.status == "cancelled":
        raise typer.Exit(130)


def _signer(auth: AuthConfig) -> IssuerConfig:
    """Return the first issuer in whose name the gateway can sign."""
    issuers = [issuer for _, issuer in auth.all_issuers()]
    for issuer in issuers:
        if "HS256" in issuer.algorithms and issuer.secret.get_secret_value():
            return issuer
    raise ConfigError(
        f"auth.algorithms is {issuers[0].algorithms[0]}: such tokens are signed with a private key, which the gateway "
        "does not have. Get one from your identity provider, or use a configuration with HS256."
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is not a time. Write 90s, 15m, 1h or 7d.", param_hint="--ttl")
    return float(match[1]) * _UNITS[match[2]]
