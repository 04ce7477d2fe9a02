"""A long replay with chaos over two replicas and a Valkey: ``python -m loadtests.long_replay``, or ``make load``.

It writes a session, starts two gateways and a Valkey, replays the session through all of ``tidegate-load`` while
sockets break every few seconds and a storm breaks all of them, and fails if anything was lost, doubled or leaked.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.lab import SECRET, Lab
from loadtests.session_format import Closed, Frame, Header, Opened, Record, Session, save

__all__ = ["main", "write_session"]

_FAULTS = ("lost", "doubled", "reordered", "leaked", "unfinished", "receipts_wrong", "receipts_unchecked",
           "resumes_partial", "resumes_failed", "epoch_changes")  # fmt: skip
_TOKENS = 300
_PAUSE = 0.033


def write_session(path: Path) -> None:
    """Write the session of a page that asks for one answer of ten seconds and reads it."""
    where = {"generation_id": "gen_recorded", "epoch": "recorded"}
    ask = {"type": "generate", "id": 1, "kind": "chat", "input": {"message": "Tell me everything."}}
    messages: list[dict[str, object]] = [{"type": "reply", "id": 1, "ok": True, "offset": 0, **where}]
    words = [f" word{number}" for number in range(_TOKENS)]
    events: list[dict[str, object]] = [{"type": "started"}]
    events += [{"type": "delta", "text": text} for text in words]
    digest = hashlib.sha256("".join(words).encode()).hexdigest()
    receipt = {"offset": len(words) + 2, "characters": sum(map(len, words)), "sha256": digest}
    events.append({"type": "completed", "reason": "stop", "receipt": receipt})
    messages += [{"type": "event", "offset": at, "event": event, **where} for at, event in enumerate(events, 1)]
    records: list[Record] = [Opened(0.0), Frame(0.2, "send", json.dumps(ask))]
    records += [Frame(0.2 + at * _PAUSE, "receive", json.dumps(each)) for at, each in enumerate(messages, 1)]
    records.append(Closed(records[-1].t + 0.5, code=1000))
    save(path, Session(Header("ws://recorded/api/v1/ws", "native", ["tidegate.v1", "bearer.${token}"]), records))


def _quiet_port() -> int:
    """Return a free port that the system does not give to connections which go out: it must be free for a while."""
    while True:
        port = random.randrange(10_240, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.long_replay", description="A long replay with chaos.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the verdict and the report")
    options = parser.parse_args(arguments)
    options.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tidegate-load-") as name, Lab(Path(name)) as lab:
        session = Path(name, "session.jsonl")
        write_session(session)
        port = _quiet_port()
        _, redis = lab.valkey()
        gateways = [lab.gateway(port, redis) for _ in range(2)]
        seconds = options.minutes * 60
        urls = [each for target in gateways for each in ("--url", f"ws://127.0.0.1:{target.port}{target.path}")]
        watched = [each for target in gateways for each in ("--server-pid", str(target.pid))]
        judged = [each for fault in _FAULTS for each in ("--fail-if", f"{fault}>0")]
        told = ["-n", options.clients, "--ramp", f"{seconds / 6:.0f}s", "--loop", "--duration", f"{seconds:.0f}s",
                "--drop-every", "5s", "--offline", "1s", "--storm", f"{seconds / 2:.0f}s", "--jwt-secret", SECRET,
                "--with-producer", "--producer-port", port, "--settle", "30s", "--allow-void",
                "--json", options.out / "load.json", "--html", options.out / "load.html"]  # fmt: skip
        command = [sys.executable, "-m", "loadtests", "replay", session, *urls, *watched, *judged, *told]
        return subprocess.run([str(each) for each in command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
