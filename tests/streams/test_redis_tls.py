"""Redis over TLS: a real server with the protocol in it, and one behind a terminator, where there is no other."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from app.composition.broker import create_topology
from app.config.broker import BrokerConfig
from app.errors import BrokerUnavailable, ConfigError
from app.streams.redis.client import Client
from app.streams.redis.topology import Topology
from tests.streams.support import LAST, Replica, assert_clean, eventually, listen, numbered, own, standalone, whole_log
from tests.support.tls_redis import NoTlsRedis, TlsRedis
from tests.support.valkey import ValkeyServer


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority: a server's for localhost, a client's; and another authority with a client's."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ca", "other"):
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-days", "2", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            folder=folder,
        )  # fmt: skip
    for name, authority in (("server", "ca"), ("client", "ca"), ("strange", "other")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
                "-subj", f"/CN={name}", folder=folder)  # fmt: skip
        (folder / "names").write_text("subjectAltName=DNS:localhost\n")
        signed_by = ("-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed_by, "-days", "2", "-extfile", "names",
                "-out", f"{name}.pem", folder=folder)  # fmt: skip
    return folder


@asynccontextmanager
async def terminator(valkey: ValkeyServer, papers: Path) -> AsyncIterator[int]:
    """Speak TLS in front of a server that can't, and ask for a client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers / "server.pem", papers / "server.key")
    context.load_verify_locations(papers / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(valkey.url.removeprefix("unix://"))
        for way in (pump(reader, forth), pump(back, writer)):
            pumps.add(asyncio.ensure_future(way))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@pytest.fixture(scope="module")
def tls_server(papers: Path) -> Iterator[TlsRedis]:
    """The one place where tests that need a Redis with TLS are skipped."""
    try:
        server = TlsRedis(papers)
    except NoTlsRedis as error:
        pytest.skip(str(error))
    with closing(server):
        yield server


@pytest.fixture(params=["server", "terminator"])
async def port(request: pytest.FixtureRequest, valkey: ValkeyServer, papers: Path) -> AsyncIterator[int]:
    if request.param == "server":
        yield request.getfixturevalue("tls_server").port
    else:
        admin = Client(standalone(valkey.url), timeout=2.0, patience=1.0)
        await admin.command("ACL", "SETUSER", "gateway", "on", f">{TlsRedis.password}", "~*", "&*", "+@all")
        try:
            async with terminator(valkey, papers) as port:
                yield port
        finally:
            await admin.command("ACL", "DELUSER", "gateway")
            await admin.close()


def over_tls(port: int, papers: Path, host: str = "localhost", **changed: str | None) -> Topology:
    files = {"tls_ca": "ca.pem", "tls_certificate": "client.pem", "tls_key": "client.key", **changed}
    values = {key: None if name is None else str(papers / name) for key, name in files.items()}
    url = f"rediss://gateway:{TlsRedis.password}@{host}:{port}"
    return create_topology(BrokerConfig(redis_url=url, connect_timeout=1.0, **values))


async def test_everything_goes_over_tls(port: int, papers: Path, prefix: str) -> None:
    def where() -> Topology:
        return over_tls(port, papers)

    async with Replica(where, prefix, "a", timeout=2.0) as a, Replica(where, prefix, "b", timeout=2.0) as b:
        owned = await own(a, "gen:1")
        recorder, _ = await listen(b, "gen:1")
        room, _ = await listen(b, "room:1", replay=False)
        a.ledger.append(owned, numbered(1, 50))
        a.ledger.append(owned, [LAST], close=True)
        await a.broker.publish("room:1", b"x" * 1_000_000, size=5, ttl=30.0)
        await recorder.reaches(51)
        await room.reaches(1)
        assert_clean(recorder, room)


async def test_a_server_that_restarts_is_connected_to_again(tls_server: TlsRedis, papers: Path, prefix: str) -> None:
    def where() -> Topology:
        return over_tls(tls_server.port, papers)

    async with Replica(where, prefix, "a", timeout=2.0) as a, Replica(where, prefix, "b", timeout=2.0) as b:
        owned = await own(a, "gen:1")
        local, _ = await listen(a, "gen:1")
        remote, _ = await listen(b, "gen:1")
        a.ledger.append(owned, numbered(1, 20))
        await remote.reaches(20)
        await asyncio.to_thread(tls_server.restart)
        a.ledger.append(owned, numbered(21, 40))
        await local.reaches(40)
        a.ledger.append(owned, [LAST], close=True)
        await remote.reaches(41, timeout=20.0)
        await eventually(lambda: a.ledger.unwritten == 0, timeout=20.0)
        assert await whole_log(b, "gen:1") == local.items == [*numbered(1, 40), LAST]
        assert not remote.faults


@pytest.mark.parametrize(
    ("host", "changed"),
    [("127.0.0.1", {}), ("localhost", {"tls_ca": "other.pem"}), ("localhost", {"tls_ca": None}),
     ("localhost", {"tls_certificate": None, "tls_key": None}),
     ("localhost", {"tls_certificate": "strange.pem", "tls_key": "strange.key"})],
    ids=["another name", "another authority", "the system's authorities", "no certificate of ours", "a foreign one"],
)  # fmt: skip
async def test_a_server_that_can_not_be_trusted_and_a_client_without_papers_get_nowhere(
    port: int, papers: Path, host: str, changed: dict[str, str | None]
) -> None:
    client = Client(over_tls(port, papers, host, **changed), timeout=1.0, patience=0.5)
    with pytest.raises(BrokerUnavailable):
        await client.command("PING")
    await client.close()


async def test_plain_words_and_a_wrong_password_get_nowhere_over_tls(tls_server: TlsRedis, papers: Path) -> None:
    plain = create_topology(BrokerConfig(redis_url=f"redis://localhost:{tls_server.port}", connect_timeout=0.5))
    wrong = create_topology(
        BrokerConfig(
            redis_url=f"rediss://gateway:wrong@localhost:{tls_server.port}",
            tls_ca=str(papers / "ca.pem"),
            tls_certificate=str(papers / "client.pem"),
            tls_key=str(papers / "client.key"),
        )
    )
    for topology in (plain, wrong):
        client = Client(topology, timeout=1.0, patience=0.5)
        with pytest.raises(BrokerUnavailable):
            await client.command("PING")
        await client.close()


def test_files_that_can_not_be_used_are_named(papers: Path) -> None:
    with pytest.raises(ConfigError, match=r"broker\.tls_ca: there is no file"):
        over_tls(1, papers, tls_ca="nowhere.pem")
    with pytest.raises(ConfigError, match="tls_key"):
        over_tls(1, papers, tls_key="server.key")
