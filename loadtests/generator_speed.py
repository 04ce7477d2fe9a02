"""How fast ``tidegate-load`` itself is: ``python -m loadtests.generator_speed``.

It replays a session against a server of canned frames, which costs next to nothing: no protocol, no JSON, plain sockets
and one epoll. So what is measured is the load generator, one process of it, with all of its books kept. CPU for each
message is the figure to trust on a machine that others use; messages a second need a core for each of the two.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import multiprocessing
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench import machine
from loadtests.session_format import Closed, Frame, Header, Opened, Record, Session, save

__all__ = ["main"]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"sec-websocket-key: *([^\r ]+)", re.IGNORECASE)
_IDS = {"generation_id": "gen_canned_000000", "epoch": "canned00"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line of figures."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.generator_speed", description="Measure the generator.")
    parser.add_argument("--sockets", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=20.0, help="messages a second to each socket")
    parser.add_argument(
        "--own", action="store_true", help="a stream of its own for each, instead of one that all watch"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stream")
    options = parser.parse_args(arguments)
    machine.raise_file_limit()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    count = round(options.rate * options.seconds)
    server = context.Process(target=_serve, args=(theirs, count, options.rate, options.own), daemon=True)
    server.start()
    port = ours.recv()
    machine.pin(0, machine.LOAD_CORE)
    with tempfile.TemporaryDirectory() as folder:
        session, out = Path(folder, "s.jsonl"), Path(folder, "v.json")
        _write(session, options.seconds + 6)
        command = [sys.executable, "-m", "loadtests", "replay", str(session), "--url", f"ws://127.0.0.1:{port}/",
                   "-n", str(options.sockets), "--ramp", "5s", "--settle", "30s", "--json", str(out), "-q"]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not out.exists():
            print(done.stdout + done.stderr, file=sys.stderr)
            return 1
        verdict = json.loads(out.read_text())
    server.terminate()
    process = verdict["generator"][0]
    busiest = sorted(verdict["series"]["messages"].values())[-3:]
    cpu = _cost(verdict["series"])
    wrong = {name: verdict[name] for name in ("lost", "doubled", "receipts_wrong", "unfinished") if verdict[name]}
    shape = "a stream each" if options.own else "one stream"
    print(
        f"{options.sockets} sockets, {shape}, {verdict['messages']:,} messages: "
        f"{min(busiest):,} a second in the busiest three, "
        f"{cpu * 1e6:.1f} µs of CPU each ({1 / cpu:,.0f} a second for a core), "
        f"own lag p99 {process['lag_p99']:.1f} ms, {process['memory'] / 1e6:.0f} MB; "
        f"{verdict['receipts_right']:,} receipts right, wrong: {wrong or 'nothing'}"
    )
    return 0 if not wrong else 1


def _cost(series: dict[str, dict[str, int]]) -> float:
    """Return the seconds of CPU for a message, in the seconds in which most came: others went into connecting."""
    messages = series["messages"]
    busy = [second for second, count in messages.items() if count > 0.8 * max(messages.values())]
    return sum(series["cpu"].get(second, 0) for second in busy) / 1e6 / sum(messages[second] for second in busy)


def _write(path: Path, seconds: float) -> None:
    ask = {"type": "generate", "id": 1, "kind": "chat", "input": {"message": "x"}}
    answer = {"type": "reply", "id": 1, "ok": True, "offset": 0, **_IDS}
    ended = {"type": "event", "offset": 1, "event": {"type": "completed"}, **_IDS}
    records: list[Record] = [
        Opened(0.0), Frame(5.0, "send", json.dumps(ask)), Frame(5.1, "receive", json.dumps(answer)),
        Frame(seconds, "receive", json.dumps(ended)), Closed(seconds + 0.1, code=1000),
    ]  # fmt: skip
    save(path, Session(Header("ws://h/", "native"), records))


def _frame(value: object) -> bytes:
    text = json.dumps(value, separators=(",", ":")).encode()
    head = bytes((0x81, len(text))) if len(text) < 126 else b"\x81\x7e" + len(text).to_bytes(2, "big")
    return head + text


def _canned(count: int) -> list[bytes]:
    """Return the frames of one stream, the same for all."""
    words = [f" word{number}" for number in range(count - 1)]
    events: list[dict[str, object]] = [{"type": "delta", "text": text} for text in words]
    digest = hashlib.sha256("".join(words).encode()).hexdigest()
    receipt = {"offset": count, "characters": sum(map(len, words)), "sha256": digest}
    events.append({"type": "completed", "reason": "stop", "receipt": receipt})
    return [_frame({"type": "event", **_IDS, "offset": at, "event": event}) for at, event in enumerate(events, 1)]


def _serve(pipe: multiprocessing.connection.Connection, count: int, rate: float, own: bool) -> None:
    """Open whatever asks, and stream to whatever says something."""
    machine.raise_file_limit()
    machine.pin(0, machine.SERVER_CORE)
    frames = _canned(count)
    started = _frame({"type": "reply", "id": 1, "ok": True, "offset": 0, **_IDS})
    connected = _frame({"type": "connected", "connection_id": "c", "user_id": "u"})
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    pipe.send(listener.getsockname()[1])
    poll, sockets = select.epoll(), {listener.fileno(): listener}
    poll.register(listener, select.EPOLLIN)
    due: deque[tuple[float, socket.socket, int, bytes]] = deque()
    canned = _IDS["generation_id"].encode()
    while True:
        for number, _ in poll.poll(0.001, 256):
            if number == listener.fileno():
                fresh, _ = listener.accept()
                sockets[fresh.fileno()] = fresh
                poll.register(fresh, select.EPOLLIN)
                continue
            each = sockets[number]
            data = _receive(each)
            if not data or data[0] == 0x88:
                poll.unregister(number)
                sockets.pop(number).close()
            elif (key := _KEY.search(data)) is not None:
                accept = base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest())
                head = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                each.sendall(head + accept + b"\r\n\r\n" + connected)
            elif data[0] == 0x81:
                name = b"gen_canned_%06d" % number if own else canned
                with contextlib.suppress(OSError):
                    each.sendall(started.replace(canned, name))
                due.append((time.monotonic() + 1 / rate, each, 0, name))
        now = time.monotonic()
        while due and due[0][0] <= now:
            when, each, place, name = due.popleft()
            try:
                each.send(frames[place].replace(canned, name) if own else frames[place])
            except OSError:
                continue
            if place + 1 < count:
                due.append((when + 1 / rate, each, place + 1, name))


def _receive(each: socket.socket) -> bytes:
    try:
        return each.recv(65536)
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main())
