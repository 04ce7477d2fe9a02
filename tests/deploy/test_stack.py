"""What ``make up``, ``make test-auth`` and their like do, with a real system behind them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import ROOT, free_port

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = [
    *("build", "up", "up-build", "down", "clean", "status", "healthcheck", "setup-dev", "install-deps"),
    *("logs", "logs-users", "logs-image", "logs-speech"),
    *("test-auth", "test-image", "test-speech", "test-protected"),
    *("dev-users", "dev-image", "dev-speech"),
]
"""What the makefile of the llm-microservices system has."""


class Stack:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        known = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environ = {**known, "TIDEGATE_ENGINE": "none", "PORT": str(self.port), "CHAT_TOKENS_PER_SECOND": "0"}
        command = [sys.executable, f"deploy/{script}.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=110, check=False)
        return done.returncode, done.stdout + done.stderr

    def stack(self, *arguments: str) -> tuple[int, str]:
        return self.run("stack", *arguments, "--folder", str(self.folder))

    def check(self, name: str) -> tuple[int, str]:
        return self.run("checks", name, "--url", f"http://127.0.0.1:{self.port}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    it = Stack(tmp_path_factory.mktemp("out"))
    status, said = it.stack("up")
    assert status == 0, said
    yield it
    it.stack("down")


def test_a_system_is_started_once_and_tells_how_it_is(stack):
    status, said = stack.stack("up")
    assert (status, "It runs already" in said) == (0, True)
    status, said = stack.stack("status")
    assert (status, "ready" in said, f"127.0.0.1:{stack.port}" in said) == (0, True, True)


@pytest.mark.parametrize("name", ["health", "auth", "image", "speech", "protected"])
def test_the_checks_find_a_running_system_well(stack, name):
    status, said = stack.check(name)
    assert status == 0, said
    assert f"{name}: well" in said


def test_logs_can_be_had_of_one_service_alone(stack):
    stack.check("auth")
    status, said = stack.stack("logs", "users")
    assert status == 0
    assert "path=/auth/register" in said
    assert "upstream=image" not in said
    assert "password123" not in said


def test_what_does_not_run_is_told_with_the_cure(tmp_path):
    it = Stack(tmp_path)
    status, said = it.check("health")
    assert (status, "Start it: make up-build" in said) == (1, True)
    assert "Traceback" not in said
    assert it.stack("status")[0] == 1
    assert it.stack("down") == (0, "It does not run.\n")


def test_a_system_that_cannot_start_says_why(stack, tmp_path):
    other = Stack(tmp_path)
    other.port = stack.port
    status, said = other.stack("up")
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{stack.port}: another program does" in said


def test_the_file_of_secrets_is_written_once_and_for_its_owner_alone(tmp_path):
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "setup.py"
    script.write_bytes((ROOT / "deploy" / "setup.py").read_bytes())
    for _ in range(2):
        subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
    file = tmp_path / ".env"
    written = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    secrets = dict(re.findall(r"^(\w+)=(\S+)$", written, re.MULTILINE))
    assert len(set(secrets.values())) == len(secrets) > 5
    assert all(len(secret) > 32 for secret in secrets.values())
    compose = (ROOT / "compose.yaml").read_text()
    assert all(name in compose for name in secrets)


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_systems_targets_and_what_they_run_exists(target):
    assert re.search(rf"^[\w -]*\b{target}\b[\w -]*:", MAKEFILE, re.MULTILINE)
    shown = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    for script in re.findall(r"python (deploy/\S+\.py)", shown.stdout):
        assert (ROOT / script).is_file()
    for module in re.findall(r"python -m (services\.\w+)", shown.stdout):
        assert (ROOT / module.replace(".", "/") / "__main__.py").is_file()
