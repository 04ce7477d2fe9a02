"""Get the servers that the benchmark sets beside the gateway, each in its version.

Run: python -m loadtests.bench.peers.install
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv

import orjson

from loadtests.bench.peers.catalogue import FOLDER, PEERS, PYTHON, Origin, Peer, installed_version

__all__ = ["main"]


def main() -> int:
    """Install what is not there; say what could not be had. Return 0 also then: the benchmark goes on without it."""
    FOLDER.mkdir(exist_ok=True)
    for origin, install in (("PyPI", _from_pypi), ("npm", _from_npm), ("Debian", _from_debian)):
        wanted = [peer for peer in PEERS if peer.origin == origin and not _there(peer)]
        if wanted:
            names = ", ".join(peer.name for peer in wanted)
            print(f"from {origin}: {names} …", flush=True)
            if (trouble := install(wanted)) is not None:
                print(f"  not installed: {trouble}", file=sys.stderr)
    installed_version.cache_clear()
    for peer in PEERS:
        print(f"{peer.name:<16} {installed_version(peer) or '- (the benchmark goes on without it)'}")
    return 0


def _there(peer: Peer) -> bool:
    there = installed_version(peer)
    return there is not None and (not peer.version or there == peer.version)


def _from_pypi(peers: list[Peer]) -> str | None:
    if not PYTHON.exists():
        venv.create(PYTHON.parents[1], with_pip=True)
    told = []
    for peer in peers:  # One by one, for they don't depend on each other.
        package = "litellm[proxy]" if peer.package == "litellm" else peer.package
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        told.append(_run([*pip, f"{package}=={peer.version}", "uvicorn[standard]"]))
    return "; ".join(filter(None, told)) or None


def _from_npm(peers: list[Peer]) -> str | None:
    if shutil.which("npm") is None:
        return "npm is not here; Node 18 or newer brings it"
    folder = FOLDER / "node"
    folder.mkdir(exist_ok=True)
    every: Origin = "npm"
    wanted = {peer.package: peer.version for peer in PEERS if peer.origin == every}
    (folder / "package.json").write_bytes(orjson.dumps({"private": True, "dependencies": wanted}))
    return _run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--no-package-lock", "--silent"])


def _from_debian(peers: list[Peer]) -> str | None:
    packages = [peer.package for peer in peers]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"as root: apt-get install {' '.join(packages)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    _run(["apt-get", "update", "-qq"], environment)
    return _run(["apt-get", "install", "-qq", "--no-install-recommends", *packages], environment)


def _run(command: list[str], environment: dict[str, str] | None = None) -> str | None:
    """Return the last words of a command that failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return None if done.returncode == 0 else (done.stderr or done.stdout).strip()[-500:]


if __name__ == "__main__":
    sys.exit(main())
