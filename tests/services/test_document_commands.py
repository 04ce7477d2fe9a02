"""``python -m services.ingest`` and ``services.query`` as processes, also one that is killed."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
ACME = {"X-Company-ID": "acme"}


@contextmanager
def command(name: str, library: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A process that answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [sys.executable, "-m", f"services.{name}", "--port", str(port), "--library", str(library)]
    with (
        subprocess.Popen(arguments, cwd=ROOT, env=dict(os.environ), stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, "it ended at its start"
                assert time.monotonic() < deadline, "it does not answer"
                try:
                    assert client.get("/health").json()["service"] == name
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield process, client
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["ingest", "query"])
def test_help_shows_an_example_and_a_wrong_setting_is_a_sentence(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = importlib.import_module(f"services.{name}.__main__").main
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"python -m services.{name} --port" in capsys.readouterr().out
    monkeypatch.setenv(f"{name.upper()}_THREADS", "many")
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert f"{name.upper()}_THREADS" in capsys.readouterr().err


def test_a_killed_ingest_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    library = tmp_path / "library"
    with command("ingest", library) as (process, client):
        kept = []
        for number in range(8):
            body = f"<!doctype html><p>Fact {number} is that the number is {number}."
            answer = client.post("/api/v1/ingest/upload", content=body.encode(), headers=ACME)
            assert answer.status_code == 202
            kept.append(answer.json()["id"])
        process.kill()
        process.wait(30)
    with command("ingest", library) as (_, client), command("query", library) as (_, asking):
        deadline = time.monotonic() + 60
        while client.get("/api/v1/ingest/stats", headers=ACME).json()["waiting"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        documents = client.get("/api/v1/ingest/documents", headers=ACME).json()["data"]
        assert {one["id"]: one["status"] for one in documents} == dict.fromkeys(kept, "ready")
        found = asking.post("/api/v1/query/search", json={"query": "fact", "top_k": 50}, headers=ACME).json()["data"]
        assert {one["document_id"] for one in found} == set(kept)
