"""The commands of image, code and speech, and the demo that runs them all."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.auth.development import mint
from app.config import AuthConfig
from tests.support.screenshot import data_url, draw_page

NAMES = ["image", "code", "speech", "summarizer"]
WITH_DATABASES = ["users", "analytics"]


@asynccontextmanager
async def command(
    url_path: str, *arguments: str, **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process that serves, as soon as ``url_path`` answers 200."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, "--port", str(port), env=os.environ | environ,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while True:
                try:
                    if (await client.get(url + url_path)).status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.returncode is None
                await asyncio.sleep(0.1)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def stopped(process: asyncio.subprocess.Process) -> bytes:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return output


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_an_example_and_a_wrong_setting_is_a_sentence(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = importlib.import_module(f"services.{name}.__main__").main
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert f"python -m services.{name} --port" in capsys.readouterr().out
    monkeypatch.setenv(f"{name.upper()}_WORKERS", "many")
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 2
    assert f"{name.upper()}_WORKERS" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "variable"), [("users", "HASH_WORKERS"), ("analytics", "RETENTION_DAYS")])
def test_databases_are_named_by_urls_that_are_known(
    name: str, variable: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = importlib.import_module(f"services.{name}.__main__").main
    for setting, value in ((variable, "many"), ("DATABASE_URL", "mysql://host/name"), ("DATABASE_URL", "nonsense")):
        with monkeypatch.context() as patched:
            patched.setenv(f"{name.upper()}_{setting}", value)
            with pytest.raises(SystemExit) as left:
                main([])
        assert left.value.code == 2
        assert f"{name.upper()}_{setting}" in capsys.readouterr().err


@pytest.mark.parametrize("name", WITH_DATABASES)
async def test_those_with_databases_serve_by_themselves(name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/{name}.db"
    async with command("/health", f"services.{name}", **{f"{name.upper()}_DATABASE_URL": url}) as (process, address):
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/healthz")).json()["checks"] == {"database": "ok"}
            if name == "users":
                ann = {"email": "ann@example.com", "password": "securepass123"}
                await client.post("/auth/register", json=ann)
                main = importlib.import_module("services.users.__main__").main
                await asyncio.to_thread(main, ["--database-url", url, "--grant-admin", "Ann@example.com"])
                login = await client.post("/auth/login", json=ann)
                assert login.json()["user"]["roles"] == ["admin"]
                with pytest.raises(SystemExit):
                    await asyncio.to_thread(main, ["--database-url", url, "--grant-admin", "bob@example.com"])
        assert b"Traceback" not in await stopped(process)


@pytest.mark.parametrize("name", NAMES)
async def test_it_serves_by_itself_and_stops_on_a_signal(name: str, tmp_path: Path) -> None:
    places = {f"{name.upper()}_STORAGE": str(tmp_path)} if name != "code" else {}
    async with command("/health", f"services.{name}", **places) as (process, url):
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).json()["service"] == name
        assert b"Traceback" not in await stopped(process)


async def test_the_demo_serves_all_through_the_gateway_and_leaves_nothing(tmp_path: Path) -> None:
    async with command("/health/ready", "app.cli", "demo", TMPDIR=str(tmp_path)) as (process, url):
        bearer = {"authorization": f"Bearer {mint(AuthConfig().secret.get_secret_value(), '42')}"}
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            ask = {"prompt": "a lake", "size": "64x64"}
            made = (await client.post("/image/generate", json=ask, headers=bearer)).json()
            picture = await client.get(made["url"])
            assert picture.headers["content-type"] == "image/png"
            assert (await client.get(f"/image/{made['id']}")).status_code == 404
            spoken = (await client.post("/tts/generate", json={"prompt": "Hello"})).json()
            assert (await client.get(spoken["url"])).headers["content-type"] == "audio/mpeg"
            page = {"image": data_url(draw_page()), "sync": True}
            assert "<header" in (await client.post("/api/v1/code/generate", json=page)).json()["code"]
            assert (await client.get("/admin/images")).status_code == 401
            own = (await client.get("/admin/images", headers=bearer)).json()["data"]
            assert [record["id"] for record in own] == [made["id"]]
        assert list(tmp_path.iterdir())
        assert b"Traceback" not in await stopped(process)
        assert process.returncode == 0
    assert [path for path in tmp_path.iterdir() if "demo" in path.name] == []
