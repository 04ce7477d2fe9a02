"""What compose.yaml starts, started by hand: its commands, its variables, a real database, and what users do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.compose import Compose
from tests.support.gateway import ROOT
from tests.support.valkey import ValkeyServer

SECRETS = {
    "JWT_SECRET_KEY": "a-secret-of-this-test-that-is-long-enough",
    "USERS_GATEWAY_KEY": "a-key-of-this-test-that-is-long-enough",
}


async def test_the_commands_of_a_profile_start_and_find_each_other(
    tmp_path: Path, valkey: ValkeyServer, postgres_url: str
) -> None:
    hosts = {"valkey:6379/0": valkey.url.partition("://")[2].rstrip("/")}
    hosts["postgres:postgres@postgres/users"] = postgres_url.partition("://")[2]
    folders = {f"{name}_STORAGE": str(tmp_path / name) for name in ("IMAGE", "SPEECH")}
    compose = Compose("llm-microservices", tmp_path, SECRETS, hosts, **folders)
    with compose.running():
        checks = [sys.executable, ROOT / "deploy" / "checks.py", "all", "--url", compose.url("llm-microservices")]
        done = subprocess.run(checks, capture_output=True, text=True, timeout=110, check=False)
        users = compose.said("users")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in users
    print(done.stdout, users)
