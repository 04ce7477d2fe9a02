"""A replica that is restarted, or killed, in the middle of a replay."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.loadtests.support import native_chat, replay
from tests.loadtests.test_replay import SECRET
from tests.support.gateway import Process, free_port
from tests.support.valkey import ValkeyServer

USERS = 20
CONFIG = """
[server]
port = 0
log_level = "warning"
[broker]
redis_url = "{url}"
key_prefix = "{prefix}"
[upstreams.chat]
targets = ["http://127.0.0.1:{upstream}"]
[generations]
lease = 2.0
max_running_per_user = 100
[generations.kinds.chat]
upstream = "chat"
"""
AGAIN = """
import os, signal, subprocess, sys, time, urllib.request
pid_file, config, port, number = sys.argv[1:]
pid = int(open(pid_file).read())
os.kill(pid, int(number))
while True:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=1)
    except OSError as error:
        if not hasattr(error, "code"):
            break
    time.sleep(0.05)
command = [sys.executable, "-m", "app.cli", "serve", "--config", config, "--port", port]
open(pid_file, "w").write(str(subprocess.Popen(command, start_new_session=True).pid))
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kill", [False, True], ids=["restarted", "killed and started"])
async def test_a_named_replica_is_restarted_and_nothing_is_lost(
    valkey: ValkeyServer, prefix: str, tmp_path: Path, kill: bool
) -> None:
    upstream = free_port()
    config, pid_file, script = tmp_path / "gateway.toml", tmp_path / "pid", tmp_path / "again.py"
    config.write_text(CONFIG.format(url=valkey.url, prefix=prefix, upstream=upstream))
    script.write_text(AGAIN)
    loop = asyncio.get_running_loop()
    a, b = await asyncio.gather(*(loop.run_in_executor(None, Process, config) for _ in range(2)))
    pid_file.write_text(str(b.process.pid))
    how = signal.SIGKILL if kill else signal.SIGTERM
    again = f"{sys.executable} {script} {pid_file} {config} {b.port} {int(how)}"
    try:
        verdict = await replay(
            native_chat(tmp_path / "s.jsonl"), "-n", USERS, "--url", a.ws, "--url", b.ws, *SECRET,
            "--with-producer", "--producer-port", upstream, "--restart-command", again, "--restart-at", "1s",
            "--drop-every", "2s", "--offline", "0.2s", "--settle", "30s", "--allow-void",
        )  # fmt: skip
        await loop.run_in_executor(None, b.process.wait)
    finally:
        a.stop()
        b.stop()
        if (pid := int(pid_file.read_text())) != b.process.pid:
            os.kill(pid, signal.SIGKILL)
    judge(verdict, kill=kill)


def judge(verdict: dict[str, Any], *, kill: bool) -> None:
    said = verdict["said"]
    faults = ("lost", "doubled", "reordered", "leaked", "unfinished", "receipts_wrong", "after_terminal", "unanswered")
    assert {name: verdict[name] for name in faults if verdict[name]} == {}, said
    assert verdict["streams"] >= USERS
    assert verdict["receipts_right"] + verdict["receipts_unchecked"] == verdict["streams"], said
    assert [each["code"] for each in verdict["restarts"]] == [0]
    if kill:
        assert verdict["completed"] < verdict["streams"], "what ran on the killed replica is interrupted"
        assert verdict["lost_sockets"] + sum(verdict["refusals"].values()) >= USERS // 4
    else:
        assert verdict["completed"] == verdict["streams"] == USERS, said
        assert verdict["gaps"] == verdict["resumes_failed"] == 0, said
