"""Apache Kafka itself, as a process of its own: with its log on disk, TLS, and who may sign in."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.gateway import free_port

__all__ = ["PASSWORD", "USER", "ApacheKafka", "NoKafka", "apache_kafka"]

_LIBRARIES = Path(sys.prefix) / "share" / "apache-kafka"
_READY = 90.0
_JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{_LIBRARIES}/*"]
_LISTENERS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", "WIRED")
_SECURITY = "org.apache.kafka.common.security"
USER, PASSWORD = "gateway", "gateways-password"


class NoKafka(Exception):
    """It is not here; ``tests/install-kafka.sh`` fetches it."""


class ApacheKafka:
    """One broker that is its own controller. What a client was told is kept survives :meth:`kill`."""

    def __init__(self, folder: Path) -> None:
        if not (_LIBRARIES / "complete").exists() or shutil.which("java") is None:
            raise NoKafka("Apache Kafka is not here: tests/install-kafka.sh fetches it, where there is Maven.")
        self._folder = folder
        self.ports = {name: free_port() for name in (*_LISTENERS, "CONTROLLER")}
        self.inner, self.port = self.ports["WIRED"], free_port()
        """Where it listens for those who come by a :class:`tests.support.kafka.Wire`, and where that listens."""
        self.files = _write_certificates(folder)
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "server.properties").write_text("\n".join(self._properties()))
        users = [f"SCRAM-SHA-{size}=[name={USER},password={PASSWORD}]" for size in (256, 512)]
        self._run("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", "server.properties",
                  *(word for user in users for word in ("--add-scram", user)))  # fmt: skip

    def address(self, listener: str = "PLAINTEXT") -> str:
        return f"localhost:{self._told(listener)}"

    def start(self) -> None:
        """Return when it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_JAVA, "kafka.Kafka", "server.properties"], cwd=self._folder, stdout=log, stderr=log
            )
        ends = time.monotonic() + _READY
        for port in (self.ports[name] for name in _LISTENERS):
            while not _answers(port):
                assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
                assert time.monotonic() < ends, "Apache Kafka does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    async def restart(self) -> None:
        await asyncio.to_thread(self.start)

    def format(self, folder: Path, properties: Mapping[str, str], cluster: str) -> None:
        """Make the log of another broker in ``folder``, which fails for properties that cannot be."""
        file = folder / "other.properties"
        file.write_text("\n".join(f"{name}={value}" for name, value in properties.items()))
        self._run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file))

    def _told(self, listener: str) -> int:
        return self.port if listener == "WIRED" else self.ports[listener]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*_JAVA, program, *arguments], cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _properties(self) -> list[str]:
        own = [f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()]
        told = [f"{name}://localhost:{self._told(name)}" for name in _LISTENERS]
        plain = f'{_SECURITY}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        scram = f"{_SECURITY}.scram.ScramLoginModule required;"
        pem = ["keystore.type=PEM", f"keystore.location={self.files['server']}", "truststore.type=PEM",
               f"truststore.location={self.files['ca']}", "client.auth=requested"]  # fmt: skip
        return [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{self.ports['CONTROLLER']}",
            "controller.listener.names=CONTROLLER",
            f"listeners={','.join(own)}",
            f"advertised.listeners={','.join(told)}",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,WIRED:PLAINTEXT,"
            + ",".join(f"{it}:{it}" for it in _LISTENERS[:-1]),
            "inter.broker.listener.name=PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            *(
                f"listener.name.{name}.{mechanism}.sasl.jaas.config={module}"
                for name in ("sasl_plaintext", "sasl_ssl")
                for mechanism, module in (("plain", plain), ("scram-sha-256", scram), ("scram-sha-512", scram))
            ),
            *(f"ssl.{line}" for line in pem),
            f"log.dirs={self._folder}/data",
            "auto.create.topics.enable=false",
            "group.initial.rebalance.delay.ms=0",
            "offsets.topic.num.partitions=1",
            "offsets.topic.replication.factor=1",
            "transaction.state.log.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1",
            # One that was killed is taken back without waiting for its former life to be given up.
            "broker.session.timeout.ms=1000",
            "broker.heartbeat.interval.ms=200",
        ]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def apache_kafka(folder: Path) -> Iterator[ApacheKafka]:
    """Run one. Raises :exc:`NoKafka`."""
    broker = ApacheKafka(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def _write_certificates(folder: Path) -> dict[str, Path]:
    """Write an authority, and with their keys a server's certificate for ``localhost``, a client's, and a stranger."""
    own = _Authority("authority")
    files = {name: folder / f"{name}.pem" for name in ("ca", "server", "client", "stranger")}
    files["ca"].write_bytes(own.certificate.public_bytes(serialization.Encoding.PEM))
    files["server"].write_bytes(own.issue("server"))
    files["client"].write_bytes(own.issue("client"))
    files["stranger"].write_bytes(_Authority("stranger").certificate.public_bytes(serialization.Encoding.PEM))
    return files


class _Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, name: str) -> bytes:
        """Return a certificate and its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost")]
        subject = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, name)])
        signed = (
            self._builder(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return signed.public_bytes(pem) + key.private_bytes(pem, pkcs8, serialization.NoEncryption())

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
        )
