"""Runs http-cache-tests (npm) against a gateway: ``make cache-tests``. Needs node and npm.

Prints how many tests of each kind passed and the ones that did not; ends with 1 where fewer required ones than
``--required`` passed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.support.gateway import Process, free_port

PACKAGE = "http-cache-tests@0.4.5"
HERE = Path(__file__).parent
CONFIG = """
[upstreams.suite]
targets = ["http://127.0.0.1:{port}"]
retries = {{ count = 0 }}
breaker = {{ min_requests = 1000000 }}
[[routes]]
path = "/*"
methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH"]
upstream = "suite"
auth = "none"
[routes.cache]
store_cookies = true
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/cache-tests"))
    parser.add_argument("--id", default="")
    parser.add_argument("--required", type=int, default=125)
    options = parser.parse_args()
    package = installed(options.folder)
    with tempfile.TemporaryDirectory() as scratch:
        output = run(package, Path(scratch), options.id)
        if options.id:
            print(output)
            return 0
        results = options.folder / "results.json"
        results.write_text(output[output.index("{") :])
    found = json.loads(
        subprocess.run(
            ["node", HERE / "count.mjs", package, results.resolve()], check=True, capture_output=True, text=True
        ).stdout
    )
    for kind, identity, what in found["failed"]:
        print(f"{kind:9} {identity}: {what}")
    for kind, count in found["counts"].items():
        print(f"{kind}: {count['passed']} of {count['all']} passed")
    return int(found["counts"]["required"]["passed"] < options.required)


def installed(folder: Path) -> Path:
    """Install the suite where it is not yet, and return its folder."""
    package = folder / "node_modules" / "http-cache-tests"
    if not package.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", PACKAGE], cwd=folder, check=True)
    return package.resolve()


def run(package: Path, scratch: Path, identity: str) -> str:
    """Start the suite's origin and a gateway before it; return what the suite's client writes."""
    port = free_port()
    environ = {
        **os.environ,
        "npm_config_protocol": "http",
        "npm_config_port": str(port),
        "npm_config_pidfile": str(scratch / "pid"),
        "npm_package_config_id": identity,
    }
    origin = subprocess.Popen(["node", "server/server.mjs"], cwd=package, env=environ, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        config = scratch / "gateway.toml"
        config.write_text(CONFIG.format(port=port))
        gateway = Process(config)
        try:
            environ["npm_config_base"] = gateway.http
            client = subprocess.run(
                ["node", "--no-warnings", "cli.mjs"], cwd=package, env=environ, check=True, stdout=subprocess.PIPE
            )
        finally:
            gateway.stop()
    finally:
        origin.terminate()
        origin.wait()
    return client.stdout.decode()


def wait_for(port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://localhost:{port}/")
            return
        time.sleep(0.02)
    raise TimeoutError("the suite's origin does not answer")


if __name__ == "__main__":
    sys.exit(main())
