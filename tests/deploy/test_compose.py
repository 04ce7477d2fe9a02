"""What compose.yaml starts, started by hand: its commands, its variables, a real database, and what users do."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import asyncpg
import httpx
import jwt

from tests.support.compose import SERVICES, Compose
from tests.support.gateway import ROOT
from tests.support.s3 import object_store
from tests.support.valkey import ValkeyServer

SECRETS = {
    "JWT_SECRET_KEY": "a-secret-of-this-test-that-is-long-enough",
    "USERS_GATEWAY_KEY": "a-key-of-this-test-that-is-long-enough",
}


async def test_the_commands_of_a_profile_start_and_find_each_other(
    tmp_path: Path, valkey: ValkeyServer, postgres_url: str
) -> None:
    async with object_store() as store:
        for bucket in re.findall(r"store/(\S+)", SERVICES["buckets"]["command"][0]):
            await store.make_bucket(bucket)
        hosts = {
            "redis://valkey:6379/0": valkey.url,
            "postgres:postgres@postgres/users": postgres_url.partition("://")[2],
            "minio:9000": store.url.partition("://")[2],
        }
        compose = Compose("llm-microservices", tmp_path, SECRETS, hosts)
        async with compose.running():
            checks = [ROOT / "deploy" / "checks.py", "all", "--url", compose.url("llm-microservices")]
            done = await asyncio.create_subprocess_exec(sys.executable, *checks, stdout=PIPE, stderr=STDOUT)
            told = (await done.communicate())[0].decode()
            async with httpx.AsyncClient(base_url=compose.url("llm-microservices"), timeout=60) as client:
                text = "Light is fast. It comes from the sun. Some of it is red. Nobody has seen all of it. " * 5
                summed = await client.post("/summarize/", json={"text": text})
        async with httpx.AsyncClient() as client:  # All such stores of one process share what they keep.
            await client.post(f"{store.url}/moto-api/reset")
    assert done.returncode == 0, told
    assert "redis link is down" not in compose.said("llm-microservices")
    assert summed.status_code in (200, 201, 307), summed.text
    assert "Traceback" not in compose.said("users")


async def test_nyros_documents_are_in_the_database_that_both_its_services_are_told_of(
    tmp_path: Path, valkey: ValkeyServer, postgres_url: str
) -> None:
    hosts = {
        "redis://valkey:6379/0": valkey.url,
        "postgres:postgres@postgres/library": postgres_url.partition("://")[2],
        "/srv/tidegate/library": str(tmp_path / "library"),
    }
    secret = SECRETS["JWT_SECRET_KEY"]
    compose = Compose("nyro", tmp_path, {"GATEWAY_JWT_SECRET": secret}, hosts)
    claims = {"sub": "42", "aud": "authenticated", "exp": time.time() + 600, "app_metadata": {"company_id": "acme"}}
    token = jwt.encode(claims, secret, "HS256")
    asked = {"headers": {"Authorization": f"Bearer {token}"}, "timeout": 60}
    async with compose.running(), httpx.AsyncClient(base_url=compose.url("nyro"), **asked) as client:
        body = {"title": "Returns", "text": "Goods may be returned within thirty days."}
        kept = await client.post("/api/v1/ingest/documents?wait=true", json=body)
        told = await client.post("/api/v1/query/ask", json={"query": "How long may goods be returned?"})
    assert kept.status_code == 201, kept.text
    assert "thirty days" in told.json()["answer"]
    connection = await asyncpg.connect(postgres_url)
    titles = await connection.fetch("SELECT title FROM library_documents")
    await connection.close()
    assert [row["title"] for row in titles] == ["Returns"]
    assert not list(tmp_path.rglob("*.sqlite"))


def test_every_database_that_is_named_is_made() -> None:
    entries = [entry for service in SERVICES.values() for entry in service.get("environment", [])]
    named = {found for entry in entries for found in re.findall(r"@postgres/(\w+)$", entry)}
    first = {entry.partition("=")[2] for entry in entries if entry.startswith("POSTGRES_DB=")}
    loop = re.match(r"for name in ([\w ]+);", SERVICES["databases"]["command"][0])
    assert loop
    assert named == first | set(loop[1].split())
