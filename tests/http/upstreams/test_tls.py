"""TLS to upstreams: who is believed, what is shown, what is offered."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.config import UpstreamConfig, load_config
from app.errors import ConfigError, UpstreamUnreachable
from app.http.transport import HttpTransport
from tests.http.support import ok, raw_server, read_request
from tests.http.upstreams.support import get, transport


def certificate(file, name, usage="localhost"):
    """Write a certificate that signs itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(usage)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(file)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    return {
        name: certificate(folder / f"{name}.pem", name, usage)
        for name, usage in (("server", "api.example.com"), ("client", "gateway"), ("other", "localhost"))
    }


@contextlib.asynccontextmanager
async def secure_server(files, *, ask_for=None, alpn=("h2", "http/1.1")):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["server"])
    context.set_alpn_protocols(list(alpn))
    if ask_for is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files[ask_for])
    seen = []
    context.sni_callback = lambda _, name, __: seen.append(name)

    async def handler(reader, writer):
        while True:
            await read_request(reader)
            tls = writer.get_extra_info("ssl_object")
            seen.append(tls.selected_alpn_protocol())
            writer.write(ok())

    async with raw_server(handler, ssl=context) as server:
        yield server.url.replace("http:", "https:"), seen


async def to_loopback(host, port):
    return ["127.0.0.1"]


async def test_a_target_is_verified_by_its_name_and_told_it_and_spoken_to_in_http_1(files):
    async with secure_server(files) as (url, seen):
        named = url.replace("127.0.0.1", "api.example.com")
        async with transport(named, tls_ca=files["server"], resolve=to_loopback) as client:
            assert await get(client) == (200, b"ok")
        assert seen == ["api.example.com", "http/1.1"]


async def test_the_name_may_be_another_than_the_address(files):
    async with secure_server(files) as (url, seen):
        options = {"tls_ca": files["server"], "tls_server_name": "api.example.com"}
        async with transport(url, **options) as client:
            assert await get(client, "POST", b"x" * 100_000) == (200, b"ok")
        assert seen[0] == "api.example.com"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tls_ca": "other", "tls_server_name": "api.example.com"},
        {"tls_ca": "server", "tls_server_name": "evil.com"},
    ],
)
async def test_whoever_cannot_prove_who_he_is_gets_no_request(files, options):
    options = {key: files.get(value, value) for key, value in options.items()}
    async with secure_server(files) as (url, seen):
        async with transport(url, **options) as client:
            with pytest.raises(UpstreamUnreachable):
                await get(client, "POST", b"secret")
        assert "http/1.1" not in seen


async def test_not_verifying_has_to_be_said(files):
    async with secure_server(files) as (url, _), transport(url, tls_verify=False) as client:
        assert await get(client) == (200, b"ok")


async def test_the_gateway_shows_its_certificate_where_it_is_asked_for(files):
    options = {"tls_ca": files["server"], "tls_server_name": "api.example.com", "retries": {"count": 0}}
    async with secure_server(files, ask_for="client") as (url, _):
        async with transport(url, tls_certificate=files["client"], **options) as client:
            assert await get(client) == (200, b"ok")
        async with transport(url, **options) as client:
            with pytest.raises(Exception, match="behind the gateway"):
                await get(client)
            await asyncio.sleep(0)


@pytest.mark.parametrize("key", ["tls_ca", "tls_certificate"])
def test_files_that_hold_no_certificate_are_errors_of_the_configuration(tmp_path, key):
    file = tmp_path / "x.pem"
    file.write_text("nothing")
    with pytest.raises(ConfigError, match=f"upstreams.u.{key}"):
        HttpTransport({"u": UpstreamConfig(targets=("https://h",), **{key: str(file)})})


# The configuration.


def load(folder, text, **environ):
    path = folder / "gateway.toml"
    path.write_text(text)
    return load_config(path, environ)


def test_files_are_found_beside_the_configuration(tmp_path):
    certificate(tmp_path / "ca.pem", "x")
    config = load(tmp_path, '[upstreams.u]\ntargets = ["https://h"]\ntls_ca = "ca.pem"\n')
    assert config.upstreams["u"].tls_ca == str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"upstreams\.u\.tls_ca names a file"):
        load(tmp_path, '[upstreams.u]\ntargets = ["https://h"]\ntls_ca = "other.pem"\n')


def test_not_verifying_is_refused_in_production(tmp_path):
    text = '[server]\nenvironment = "production"\n[auth]\nsecret = "%s"\n[upstreams.u]\ntargets = ["https://h"]\n'
    text %= "0123456789abcdef" * 4
    assert load(tmp_path, text).upstreams["u"].tls_verify
    with pytest.raises(ConfigError, match=r"upstreams\.u\.tls_verify is for development only"):
        load(tmp_path, text + "tls_verify = false\n")


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ('targets = ["http://a weight=2", "http://b"]', "strategy takes no weights"),
        ('targets = ["http://a weight=0"]', "targets holds"),
        ('targets = ["http://a wait=2"]', "targets holds"),
        ('targets = ["http://a"]\nstrategy = "best"', "strategy"),
        ('targets = ["http://a"]\ntls_key = "gateway.toml"', "tls_key is of no use"),
        ('targets = ["http://a"]\nhealth_path = ""\nhealth = {interval = 5}', "health.interval needs a health_path"),
        ('targets = ["http://a"]\nretries = {statuses = [404]}', "retries.statuses holds 404"),
        ('targets = ["http://a"]\nbreaker = {treshold = 0.5}', "threshold"),
    ],
)
def test_settings_that_do_not_fit_name_their_key(tmp_path, lines, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, f"[upstreams.u]\n{lines}\n")


def test_everything_can_come_from_the_environment(tmp_path):
    config = load(
        tmp_path,
        '[upstreams.u]\ntargets = ["http://a"]\n[[routes]]\npath = "/x"\nupstream = "u"\n',
        GATEWAY_UPSTREAMS__U__TARGETS="http://a weight=2, http://b",
        GATEWAY_UPSTREAMS__U__STRATEGY="least_connections",
        GATEWAY_UPSTREAMS__U__BREAKER__THRESHOLD="0.3",
        GATEWAY_UPSTREAMS__U__RETRIES__STATUSES="502, 503",
        GATEWAY_ROUTES__0__HEDGE="true",
        GATEWAY_ROUTES__0__RETRIES="0",
    )
    upstream, route = config.upstreams["u"], config.routes[0]
    assert upstream.weighted_targets() == [("http://a", 2), ("http://b", 1)]
    assert (upstream.strategy, upstream.breaker.threshold) == ("least_connections", 0.3)
    assert upstream.retries.statuses == (502, 503)
    assert (route.hedge, route.retries) == (True, 0)


async def test_cancelled_requests_to_a_slow_tls_upstream_leave_no_socket_open(files):
    """uvloop does not tell the protocol of a connection that is cancelled within its handshake."""

    async def never_shakes_hands(reader, writer):
        while await reader.read(65536):
            pass

    async def cancelled(client, after):
        asking = asyncio.create_task(get(client))
        done, _ = await asyncio.wait([asking], timeout=after)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        return len(done)

    def sockets():
        return sum(each.startswith("socket") for each in descriptors())

    options = {"tls_ca": files["server"], "resolve": to_loopback, "max_connections": 300, "keepalive": 0}
    async with raw_server(never_shakes_hands) as silent, secure_server(files) as (quick, _):
        for url in (silent.url.replace("http:", "https:"), quick):
            named = url.replace("127.0.0.1", "api.example.com")
            async with transport(named, breaker={"enabled": False}, health={"interval": 0}, **options) as client:
                before = sockets()
                served, pause = 0, 0.001  # A busy machine takes its time for a handshake.
                for _ in range(4):
                    served += sum(await asyncio.gather(*(cancelled(client, pause * i) for i in range(50))))
                while url == quick and not served:
                    pause *= 2
                    served += sum(await asyncio.gather(*(cancelled(client, pause * i) for i in range(50))))
                async with asyncio.timeout(20):
                    while sockets() > before:
                        await asyncio.sleep(0.02)
                assert client.connections("u") == (0, 0)


def descriptors():
    """What is open, but for that by which it is listed."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{name}")
