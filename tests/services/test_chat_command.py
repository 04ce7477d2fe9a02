from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from services.chat.__main__ import main


@asynccontextmanager
async def command(*arguments: str, **environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHAT_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.chat", *arguments, env=clean | environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "curl -N http://127.0.0.1:8002/v1/chat/completions" in capsys.readouterr().out


def test_a_wrong_setting_is_a_sentence_and_not_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_API_KEY", "sk-secret")
    with pytest.raises(SystemExit) as left:
        main([])
    output = capsys.readouterr().err
    assert left.value.code == 2
    assert "go together" in output
    assert "sk-secret" not in output


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--tokens-per-second", "-3"]])
def test_a_wrong_argument_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2


async def test_it_answers_and_stops_on_a_signal_while_it_streams() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with (
        command("--port", str(port), "--tokens-per-second", "200", CHAT_MODEL="newton") as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        async with asyncio.timeout(10):
            while True:
                try:
                    health = (await client.get("/health")).json()
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
        assert health["model"] == "newton"
        ask = {"stream": True, "messages": [{"role": "user", "content": "Colours"}]}
        assert "data: [DONE]" in (await client.post("/v1/chat/completions", json=ask)).text
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            output, _ = await process.communicate()
    assert b"Traceback" not in output
