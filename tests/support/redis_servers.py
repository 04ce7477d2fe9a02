"""Real Valkey servers on free ports: a master with a replica behind sentinels, and a cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

from app.streams.redis.cluster import Cluster
from app.streams.redis.embedded import find_server
from app.streams.redis.sentinel import Sentinels
from app.streams.redis.server import Access, Address
from app.streams.redis.topology import Topology
from tests.support.gateway import free_port

__all__ = ["ClusterServers", "SentinelServers", "Server", "until"]


def until(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Wait, without an event loop, until ``condition`` holds; errors of the connection count as not yet."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, "the servers do not get there"
        time.sleep(0.02)


class Server:
    """One process, Valkey or sentinel, on a port of its own."""

    def __init__(self, folder: Path, *options: str, sentinel: str = "") -> None:
        self.port = free_port()
        self.address = Address("127.0.0.1", self.port)
        self._folder = folder / str(self.port)
        self._folder.mkdir()
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}", f"logfile {self._folder}/log", *options]
        if not sentinel:
            lines += ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
        self._config = self._folder / "server.conf"
        self._config.write_text("\n".join([*lines, sentinel]) + "\n")
        self._sentinel = bool(sentinel)
        self.process: subprocess.Popen[bytes]
        self.paused = False
        self.redis = redis.Redis(port=self.port, socket_timeout=5.0, protocol=2)
        self.start()

    def start(self) -> None:
        command = [find_server(), str(self._config), *(["--sentinel"] if self._sentinel else [])]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.paused = False
        until(self.redis.ping)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.redis.close()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)
        self.paused = False


class _Servers:
    """A folder and servers in it, ended with it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-servers-"))
        self.servers: list[Server] = []

    def add(self, *options: str, sentinel: str = "") -> Server:
        server = Server(self.folder, *options, sentinel=sentinel)
        self.servers.append(server)
        return server

    def close(self) -> None:
        for server in self.servers:
            if server.alive:
                server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class SentinelServers(_Servers):
    """A master, a replica and three sentinels that need two votes; with passwords for both kinds."""

    name = "gate"
    password = "for-servers"
    sentinel_password = "for-sentinels"
    down_after = 400
    """Milliseconds of silence after which a server counts as down."""

    def __init__(self) -> None:
        super().__init__()
        locks = (f"requirepass {self.password}", f"masterauth {self.password}", "repl-ping-replica-period 1")
        first = self._data(*locks)
        second = self._data(*locks, f"replicaof 127.0.0.1 {first.port}")
        self.data = [first, second]
        until(lambda: second.redis.info("replication")["master_link_status"] == "up")
        lines = [
            f"sentinel monitor {self.name} 127.0.0.1 {first.port} 2",
            f"sentinel auth-pass {self.name} {self.password}",
            f"sentinel down-after-milliseconds {self.name} {self.down_after}",
            f"sentinel failover-timeout {self.name} 3000",
            f"requirepass {self.sentinel_password}",
            f"sentinel sentinel-pass {self.sentinel_password}",
        ]
        self.sentinels = [self._data(sentinel="\n".join(lines), password=self.sentinel_password) for _ in range(3)]
        until(lambda: all(self._knows_all(sentinel) for sentinel in self.sentinels))

    def topology(self) -> Topology:
        access = Access(password=self.password, timeout=2.0)
        asking = Access(password=self.sentinel_password, timeout=0.5)
        return Sentinels([each.address for each in self.sentinels], self.name, access, asking)

    @property
    def master(self) -> Server:
        """The server that says that it is the master and takes writes."""
        return until(lambda: next((each for each in self.data if self._is_master(each)), None))

    @property
    def replica(self) -> Server:
        master = self.master
        return next(each for each in self.data if each is not master)

    def ask_for_failover(self) -> None:
        """Let the replica take over; returns when a sentinel has begun with it."""
        until(lambda: self.sentinels[0].redis.execute_command("SENTINEL", "FAILOVER", self.name))

    def be_patient(self, down_after: int) -> None:
        """Let servers be silent for so many milliseconds, until :meth:`heal`.

        A replica that has been without its master for more than ten times as long never takes its place.
        """
        for sentinel in self.sentinels:
            sentinel.redis.execute_command("SENTINEL", "SET", self.name, "down-after-milliseconds", down_after)

    def heal(self) -> None:
        """Bring both servers up, one of them following the other, with nothing left behind."""
        for server in (*self.data, *self.sentinels):
            if not server.alive:
                server.start()
            elif server.paused:
                server.resume()
        self.be_patient(self.down_after)
        for server in self.data:
            until(lambda server=server: server.redis.config_set("masterauth", self.password))
        until(self._one_master)

    def _one_master(self) -> bool:
        named = {self._named(sentinel) for sentinel in self.sentinels}
        if len(named) == 1:  # Sentinels demote a server too, ten seconds after it came back.
            self._follow(named.copy().pop())
        infos = [server.redis.info("replication") for server in self.data]
        masters = [server.port for server, info in zip(self.data, infos, strict=True) if info["role"] == "master"]
        links = [info["master_link_status"] for info in infos if info["role"] != "master"]
        known = all(self._knows_all(sentinel) for sentinel in self.sentinels)
        return len(masters) == 1 and named == set(masters) and links == ["up"] and known

    def _follow(self, master: int) -> None:
        for server in self.data:
            info = server.redis.info("replication")
            if server.port != master and (info["role"] == "master" or info["master_port"] != master):
                server.redis.replicaof("127.0.0.1", master)

    def _named(self, sentinel: Server) -> int:
        return int(sentinel.redis.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])

    def _knows_all(self, sentinel: Server) -> bool:
        flat = sentinel.redis.execute_command("SENTINEL MASTER", self.name)
        if isinstance(flat, dict):
            state = flat
        else:
            pairs = [it.decode() for it in flat]
            state = dict(zip(pairs[::2], pairs[1::2], strict=True))
        others, replicas = int(state["num-other-sentinels"]), int(state["num-slaves"])
        return others == 2 and replicas == 1 and "down" not in str(state["flags"])

    def _is_master(self, server: Server) -> bool:
        return server.alive and not server.paused and server.redis.info("replication")["role"] == "master"

    def _data(self, *options: str, sentinel: str = "", password: str = password) -> Server:
        server = _WithPassword(self.folder, password, options, sentinel)
        self.servers.append(server)
        return server


class _WithPassword(Server):
    def __init__(self, folder: Path, password: str, options: tuple[str, ...], sentinel: str) -> None:
        self._password = password
        super().__init__(folder, *options, sentinel=sentinel)

    def start(self) -> None:
        self.redis = redis.Redis(port=self.port, password=self._password, socket_timeout=5.0, protocol=2)
        super().start()


class ClusterServers(_Servers):
    """Three masters with a third of the slots each; :meth:`add_replica` gives one of them a replica."""

    def __init__(self) -> None:
        super().__init__()
        self.options = (
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            "cluster-node-timeout 1000",
            "cluster-require-full-coverage no",
            "cluster-replica-validity-factor 0",
        )
        self.spares: list[Server] = []
        self.masters = [self._node() for _ in range(3)]
        bounds = (0, 5461, 10923, 16384)
        for master, first, end in zip(self.masters, bounds, bounds[1:], strict=False):
            master.redis.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
            master.redis.execute_command("CLUSTER", "SET-CONFIG-EPOCH", first + 1)
        self.meet()
        until(lambda: all(self.whole(master) for master in self.masters))

    def topology(self) -> Topology:
        return Cluster([master.address for master in self.masters[:2]], Access(timeout=1.0))

    def meet(self) -> None:
        first = self.masters[0]
        for server in self.servers:
            if server is not first:
                bus = server.redis.config_get("cluster-port")["cluster-port"]
                first.redis.execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)

    def add_replica(self, master: Server) -> Server:
        replica = self._node()
        self.meet()
        name = self.id_of(master)
        until(lambda: name in replica.redis.execute_command("CLUSTER", "NODES").decode())
        until(lambda: replica.redis.execute_command("CLUSTER", "REPLICATE", name))
        until(lambda: replica.redis.info("replication")["master_link_status"] == "up")
        until(lambda: self.id_of(replica) in master.redis.execute_command("CLUSTER", "NODES").decode())
        return replica

    def id_of(self, server: Server) -> str:
        return server.redis.execute_command("CLUSTER", "MYID").decode()

    def owner(self, slot: int) -> Server:
        """The master that the cluster's first living node names for ``slot``."""
        alive = next(server for server in self.servers if server.alive and not server.paused)
        for first, last, node, *_ in _slots(alive):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == node[1])
        raise AssertionError(f"nobody owns slot {slot}")

    def migrate(self, slot: int, target: Server, between: Callable[[], None] = lambda: None) -> None:
        """Move a slot while it is in use; ``between`` runs when both servers have a part of it."""
        source = self.owner(slot)
        target.redis.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.redis.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))
        between()
        self.move_keys(slot, source, target)
        for server in (target, source, *self.masters):
            server.redis.execute_command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def move_keys(self, slot: int, source: Server, target: Server, count: int = 10_000) -> None:
        keys = source.redis.execute_command("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.redis.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def whole(self, server: Server) -> bool:
        info = server.redis.execute_command("CLUSTER", "INFO")
        text = info.decode() if isinstance(info, bytes) else "\n".join(f"{k}:{v}" for k, v in info.items())
        nodes = f"cluster_known_nodes:{len(self.servers)}"
        return "cluster_state:ok" in text and "cluster_slots_ok:16384" in text and nodes in text

    def heal(self) -> None:
        for server in self.servers:
            if not server.alive:
                server.start()
            elif server.paused:
                server.resume()

    def _node(self) -> Server:
        return self.add(*self.options, f"cluster-port {free_port()}")


def _slots(server: Server) -> list[Any]:
    connection = redis.connection.Connection(port=server.port, protocol=2)
    try:
        connection.send_command("CLUSTER", "SLOTS")
        return connection.read_response()
    finally:
        connection.disconnect()


@contextlib.contextmanager
def closing(servers: _Servers) -> Iterator[Any]:
    """Run the servers for as long as the block."""
    try:
        yield servers
    finally:
        servers.close()
