"""The examples of docs/server-api.md work as they are."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path

from tests.support.gateway import running, settings

PAGE = (Path(__file__).parents[2] / "docs" / "server-api.md").read_text()
EXAMPLE = re.compile(r"^curl -H \"X-API-Key: \$KEY\" http://localhost:8080/api/(\w+) -d '(.*)'$", re.MULTILINE)
ROOM = {"history_size": 50, "history_ttl": 60, "presence": True}
METHODS = {
    "publish", "broadcast", "history", "history_remove", "presence", "presence_stats", "channels", "info", "subscribe",
    "unsubscribe", "refresh", "disconnect", "revoke", "batch",
}  # fmt: skip


async def test_every_example_is_answered_with_a_result() -> None:
    config = settings("http://127.0.0.1:1", server_api={"keys": ["k"]}, realtime={"namespaces": {"room": ROOM}})
    async with running(config) as gateway:
        examples = EXAMPLE.findall(PAGE)
        assert {method for method, _ in examples} == METHODS
        for method, body in examples:
            command = ["curl", "-sS", "-H", "X-API-Key: k", f"{gateway.http}/api/{method}", "-d", body]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, timeout=30)
            answer = json.loads(done.stdout)
            assert "result" in answer or all("error" not in reply for reply in answer["replies"]), (method, answer)
