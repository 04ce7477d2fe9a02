"""The commands of ``tidegate-load`` that make sessions: ``record``, ``import`` and ``snippet``."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtests.capture.files import CaptureError, open_capture
from loadtests.capture.har import Chosen, read_har
from loadtests.capture.proxy import RecordingProxy
from loadtests.capture.recording import Recording
from loadtests.capture.redaction import redact, secrets_of
from loadtests.replay.opening import Address
from loadtests.session_format import BadSession, Frame, Request, Session, load, parse, save

__all__ = ["error_line", "import_", "load_clean", "record", "snippet"]

_OUT = Console()
_SNIPPET = Path(__file__).with_name("snippet.js")
_MEGABYTE = 1_000_000


def import_(
    capture: Annotated[Path, typer.Argument(help=".har, .har.gz, .har.zip, .zhar, or a session of the snippet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The session to write.")],
    url_match: Annotated[str | None, typer.Option(help="Take only sockets whose URL holds this.")] = None,
    rest: Annotated[bool, typer.Option(help="Whether the page's calls of the same host are taken, too.")] = True,
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes that are read or unpacked at the most.")] = 200,
) -> None:  # fmt: skip
    """Make a session of what a browser or a proxy has captured, without its secrets.

    Chrome and Edge: DevTools, Network, load the page with DevTools open, then *Export HAR*. Playwright:
    `record_har_path="x.har.zip"`. mitmproxy: `--set hardump=x.har`. Others: `tidegate-load snippet` or `record`.

    Example: `tidegate-load import capture.har --out session.jsonl`
    """
    try:
        chosen = _read(capture, url_match, max_mb * _MEGABYTE, rest=rest)
        secrets = redact(chosen.session)
        save(out, chosen.session)
    except OSError as error:
        raise stop(error_line(error)) from None
    except (BadSession, CaptureError) as error:
        raise stop(str(error)) from None
    for note in chosen.notes:
        say(f"note: {note}")
    say(f"{out}: {describe(chosen.session)}; {secrets} secrets taken out")


def snippet(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it here instead of printing it.")] = None,
) -> None:
    """Print a script for a browser's console that records what a page's sockets and calls carry.

    It is for browsers that export no messages (Firefox, Safari). Paste it before the page connects; then
    `tidegateRecording.save()` downloads the session, which `tidegate-load import` takes.

    Example: `tidegate-load snippet | xclip`
    """
    text = _SNIPPET.read_text(encoding="utf-8")
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise stop(str(error)) from None


def record(
    target: Annotated[str, typer.Option(help="ws:// or wss:// of the server. Its path is for clients that ask for /.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The session to write.")],
    listen: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 9180,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    url_match: Annotated[str, typer.Option(help="Record only sockets whose URL holds this.")] = "",
    max_mb: Annotated[int, typer.Option(min=1, help="Megabytes of the session; what comes later is passed on only.")] = 200,
    insecure: Annotated[bool, typer.Option("--insecure", help="Take any TLS certificate.")] = False,
) -> None:  # fmt: skip
    """Record what a page does with a WebSocket server, from between them. Ctrl-C ends the session, whole.

    The page's calls and server-sent events are recorded as well if they go the same way. Secrets are taken out.

    Example: `tidegate-load record --listen 9180 --target ws://127.0.0.1:8080/api/v1/ws --out session.jsonl`
    """
    tls = ssl.create_default_context()
    if insecure:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    try:
        address = Address.parse(target, tls)
        recording = Recording(out, target, max_mb * _MEGABYTE)
    except (OSError, ValueError) as error:
        raise stop(str(error)) from None

    def ready(port: int) -> None:
        say(f"ws://{host}:{port} leads to {address.authority}, recorded in {out}; Ctrl-C ends it")

    try:
        asyncio.run(RecordingProxy(address, recording, url_match).serve(host, listen, ready))
    except OSError as error:
        raise stop(str(error)) from None
    finally:
        recording.close()
    counts = (
        f"{recording.sockets} sockets ({recording.protocol}), {recording.messages} messages, {recording.calls} calls"
    )
    say(f"{out}: {counts}; {recording.secrets} secrets taken out")
    if recording.dropped:
        say(f"note: {recording.dropped} records did not fit into {max_mb} MB (--max-mb)")


def load_clean(path: Path, *, allow_secrets: bool) -> Session:
    """Read a session that holds no secrets. Raises :exc:`BadSession` where one does, and :exc:`OSError`."""
    session = load(path)
    if not allow_secrets and (places := secrets_of(session)):
        where = ", ".join(places[:3]) + (" and elsewhere" if len(places) > 3 else "")
        cure = f"tidegate-load import {path} --out clean.jsonl takes them out, --allow-secrets takes the file as it is"
        raise BadSession(f"{path} holds secrets: {where}. {cure}")
    return session


def describe(session: Session) -> str:
    """Say in one line what a session holds."""
    frames = [each for each in session.records if isinstance(each, Frame)]
    sent = sum(each.direction == "send" for each in frames)
    calls = sum(isinstance(each, Request) for each in session.records)
    header = session.header
    return (
        f"{header.sockets} sockets ({header.protocol}), {sent} messages sent, {len(frames) - sent} received, "
        f"{calls} calls, {session.duration:.1f} s"
    )


def say(text: str) -> None:
    _OUT.print(text, markup=False, highlight=False, soft_wrap=True)


def error_line(error: OSError) -> str:
    """Return which file it is about, and what is wrong with it, without numbers."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def stop(text: str) -> typer.Exit:
    """Return what ends a command that can't be carried out."""
    Console(stderr=True).print(f"tidegate-load: {text}", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(2)


def _read(capture: Path, url_match: str | None, most: int, *, rest: bool) -> Chosen:
    opened = open_capture(capture, most)
    if opened.session is None:
        return read_har(opened.har, opened.attachments, url_match=url_match, rest=rest, name=capture.name)
    try:
        session = parse(opened.session)
    except BadSession as error:
        raise CaptureError(capture.name, str(error), "the last line may be cut short: record it again") from None
    if not rest:
        session.records = [
            each for each in session.records if not isinstance(each, Request) and not hasattr(each, "status")
        ]
    return Chosen(session)
