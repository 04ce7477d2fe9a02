"""The Autobahn test suite against the gateway's WebSocket class: ``make autobahn``.

The suite runs on Python 2.7 only, in an environment of its own (``.autobahn``), which is made at the first run. What
talks to it is :mod:`tests.support.echo`. Compression is not offered, so its cases are left out; all others must not
fail but for those that the ``websockets`` package, whose parser this is, documents.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".autobahn"
SUITE = "autobahntestsuite==25.10.1"
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
KNOWN = {"7.1.5": "1002 instead of 1000: a message's fragments are cut off by a close frame"}
"""Cases that may fail, and why (compliance/README of websockets)."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the Autobahn test suite against the gateway's WebSocket class.")
    parser.add_argument("cases", nargs="*", default=CASES, help="patterns such as 7.*; all but compression without any")
    parser.add_argument("--python2", default=_python2(), help="a Python 2.7")
    options = parser.parse_args()
    tool = _installed(options.python2)
    if tool is None:
        print("autobahn: the suite needs Python 2.7 (pyenv install 2.7.18, or --python2 PATH)", file=sys.stderr)
        return 2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "tests.support.echo", "--port", str(port)], cwd=ROOT)
    try:
        _wait(port)
        results = _run(tool, port, options.cases)
    finally:
        server.terminate()
        server.wait()
    return _report(results)


def _run(tool: Path, port: int, cases: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        specification = Path(folder, "spec.json")
        servers = [{"agent": "tidegate", "url": f"ws://127.0.0.1:{port}/"}]
        chosen = {"cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}
        specification.write_text(json.dumps({"outdir": f"{folder}/reports", "servers": servers, **chosen}))
        command = [str(tool), "-m", "fuzzingclient", "-s", str(specification)]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        results: dict[str, Any] = json.loads(Path(folder, "reports", "index.json").read_text())["tidegate"]
        return results


def _report(results: dict[str, Any]) -> int:
    """Print what came out by section, and each case that is not plainly right; 1 when one failed unexpectedly."""
    sections: dict[str, Counter[str]] = {}
    failed = []
    for case, result in sorted(results.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        grade, close = result["behavior"], result["behaviorClose"]
        sections.setdefault(case.partition(".")[0], Counter())[grade] += 1
        if grade != "OK" or close not in {"OK", "INFORMATIONAL"}:
            print(f"{case:8} {grade}, close {close} {result['remoteCloseCode']} {KNOWN.get(case, '')}".rstrip())
        if (grade in {"FAILED", "UNIMPLEMENTED"} or close == "FAILED") and case not in KNOWN:
            failed.append(case)
    for section, grades in sections.items():
        print(f"section {section}: " + ", ".join(f"{number} {grade}" for grade, number in grades.most_common()))
    total = Counter(result["behavior"] for result in results.values())
    print(f"{len(results)} cases: " + ", ".join(f"{number} {grade}" for grade, number in total.most_common()))
    if failed:
        print(f"autobahn: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed or not results else 0


def _installed(python2: str | None) -> Path | None:
    """Return the suite's command, installed if it was not; None without a Python 2.7."""
    tool = HOME / "python2" / "bin" / "wstest"
    if tool.exists():
        return tool
    if python2 is None:
        return None
    helper = HOME / "helper"
    quiet = ["-q", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", helper],
        [helper / "bin" / "pip", "install", *quiet, "virtualenv==20.15.1"],  # the last that makes environments of 2.7
        [helper / "bin" / "virtualenv", "-q", "-p", python2, HOME / "python2"],
        [HOME / "python2" / "bin" / "pip", "install", *quiet, SUITE],
    ):
        subprocess.run([str(part) for part in command], check=True)
    return tool


def _python2() -> str | None:
    if (found := shutil.which("python2.7")) is not None and "shims" not in found:
        return found
    versions = sorted(Path.home().glob(".pyenv/versions/2.7*/bin/python2.7"))
    return str(versions[-1]) if versions else None


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the echo server did not start")


if __name__ == "__main__":
    sys.exit(main())
