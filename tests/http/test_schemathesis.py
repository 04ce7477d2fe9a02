"""The gateway's own API against its own document, by requests that schemathesis makes up.

What it looks for: answers that are not documented in status, type or form, methods that are told wrongly, tokens that
are not looked at, and above all 500. The same requests are made each time.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from tests.support.gateway import ROOT, running, settings, token
from tests.support.upstream import Call, scripted

SERVER_KEY = "a-key-of-the-server-api-0123456789"
SERVICE_KEY = "a-key-of-the-job-service-0123456789"
EXAMPLES = 2
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "positive_data_acceptance",
    "negative_data_rejection",
)
TAKEN = ["2xx", "3xx", 401, 403, 404, 409, 410, 429, "5xx"]
"""What a good request may be answered: what it is about may not be there, or not any more."""
NOT_OURS = r"^/v1/\{rest"
LOGOUT = "/api/v1/auth/logout"


async def answer(call: Call) -> None:
    await call.answer(["Hello", " there"])


async def schemathesis(folder: Path, url: str, *options: str) -> str:
    """Return what a run prints; its status is 0 if it found nothing."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
        "-H", f"Authorization: Bearer {token('u1')}", "-H", f"X-API-Key: {SERVER_KEY}",
        "-H", f"X-Service-Key: {SERVICE_KEY}", "-c", ",".join(CHECKS), "-n", str(EXAMPLES), "-w", "1",
        "--phases", "coverage,fuzzing", "--generation-deterministic", "--no-shrink", "--request-timeout", "20",
        "--continue-on-failure", "--warnings", "off", *options,
    ]  # fmt: skip
    (folder / "schemathesis.toml").write_text(f"[checks.positive_data_acceptance]\nexpected-statuses = {TAKEN}\n")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONWARNINGS": "ignore",
             "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    output, _ = await process.communicate()
    said = output.decode()
    assert process.returncode == 0, said
    return said


def test_what_it_makes_up_is_answered_as_the_document_says(tmp_path):
    asyncio.run(try_everything(tmp_path))


async def try_everything(tmp_path: Path) -> None:
    async with scripted(answer) as upstream:
        config = settings(
            upstream.url,
            served={"openai": {"enabled": True}, "vercel": {"enabled": True, "kind": "chat"}},
            auth={"service_keys": {"job": SERVICE_KEY}},
            server_api={"keys": [SERVER_KEY]},
            server={"log_level": "critical"},
        )
        async with running(config) as gateway:
            rest = await schemathesis(tmp_path, gateway.http, "--exclude-path-regex", f"{NOT_OURS}|{LOGOUT}")
            await schemathesis(tmp_path, gateway.http, "--include-path", LOGOUT)
    tested = re.search(r"Tested: (\d+)", rest)
    assert tested is not None, rest
    assert int(tested[1]) >= 39
