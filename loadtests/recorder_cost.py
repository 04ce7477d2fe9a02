"""What the gateway's recorder costs it: ``python -m loadtests.recorder_cost``.

The same replay against gateways of which one records nothing, one a hundredth of its sockets, and one all of them; in
turn, more than once, because a machine is not the same all the time. What is told is the gateway's CPU time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.lab import SECRET, Lab
from loadtests.bench.process import free_port

__all__ = ["main"]

_SESSION = Path(__file__).with_name("sessions") / "chat.jsonl"
_SHARES = (0.0, 0.01, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; return 0."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.recorder_cost", description="What recording costs.")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each replay")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    found: dict[float, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for share in _SHARES:
            found[share].append(_microseconds(share, options.clients, options.seconds))
    plain = min(found[0.0])
    print(f"{options.clients} users, {options.rounds} rounds; the gateway's CPU time for each message, in microseconds")
    for share, each in found.items():
        times = ", ".join(f"{value:.1f}" for value in each)
        print(f"{share:4.0%} recorded: {min(each):5.1f} at the least ({min(each) / plain - 1:+.0%}); {times}")
    return 0


def _microseconds(share: float, clients: int, seconds: float) -> float:
    with tempfile.TemporaryDirectory(prefix="tidegate-recorder-") as name, Lab(Path(name)) as lab:
        port, out = free_port(), Path(name, "verdict.json")
        recordings = Path(name, "recordings")
        recordings.mkdir()
        recorder = f'[recorder]\nfolder = "{recordings}"\nshare = {share}\nmax_files = 100000\n'
        target = lab.gateway(port, more=recorder if share else "")
        command = ["replay", _SESSION, "--url", f"ws://127.0.0.1:{target.port}/api/v1/ws", "-n", clients, "--loop",
                   "--duration", f"{seconds}s", "--jwt-secret", SECRET, "--with-producer", "--producer-port", port,
                   "--server-pid", target.pid, "--json", out, "--allow-void", "-q", "--fail-if", "lost>0"]  # fmt: skip
        subprocess.run([sys.executable, "-m", "loadtests", *map(str, command)], check=True, capture_output=True)
        verdict = json.loads(out.read_text())
        (server,) = verdict["servers"].values()
        return float(server["cpu_seconds"] / verdict["messages"] * 1e6)


if __name__ == "__main__":
    sys.exit(main())
