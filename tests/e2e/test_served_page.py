"""The examples of docs/served-formats.md work as they are."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from app.config import Config
from tests.support.gateway import running, token
from tests.support.recordings import RECORDINGS
from tests.support.upstream import Call, scripted

PAGE = (Path(__file__).parents[2] / "docs" / "served-formats.md").read_text()
EXAMPLE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def examples(language: str) -> list[str]:
    return [text for kind, text in EXAMPLE.findall(PAGE) if kind == language]


def configuration(upstream: str) -> Config:
    """Return all TOML of the page, with ``upstream`` behind it."""
    values: dict[str, Any] = tomllib.loads("\n".join(examples("toml")))
    for table in values["upstreams"].values():
        table["targets"] = [upstream]
        table.pop("headers", None)
    values["served"]["keys"]["batch"]["key"] = "a-key-of-16-characters-or-more"
    return Config.model_validate({**values, "server": {"port": 0, "log_level": "warning"}})


async def anthropic(call: Call) -> None:
    await call.head()
    for event in RECORDINGS["anthropic"].events:
        await call.send(event)
    await call.end()


async def test_the_python_examples_print_what_the_upstream_said() -> None:
    async with scripted(anthropic) as upstream, running(configuration(upstream.url)) as gateway:
        for example in examples("python"):
            code = f"TOKEN = {token()!r}\n" + example.replace("http://localhost:8080", gateway.http)
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            assert process.returncode == 0
            assert "Grüße " in out.decode()
