"""Who may speak to Redis, and how: passwords, an ACL user with exactly the rules of docs/redis.md, a prefix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.composition.broker import create_topology
from app.config.broker import BrokerConfig
from app.errors import BrokerUnavailable
from app.streams.redis.client import Client
from app.streams.redis.cluster import Cluster
from app.streams.redis.sentinel import Sentinels
from app.streams.redis.topology import Standalone, Topology
from tests.streams.support import LAST, Replica, eventually, listen, numbered, own
from tests.support.redis_servers import ClusterServers
from tests.support.valkey import ValkeyServer

RULES = re.compile(r"^ACL SETUSER gateway (.+)$", re.MULTILINE)
PAGE = Path(__file__).parents[2] / "docs" / "redis.md"


async def use_everything(a: Replica, b: Replica) -> None:
    """Call whatever the gateway calls."""
    owned = await own(a, "gen:1")
    stream, subscription = await listen(b, "gen:1")
    room, _ = await listen(b, "room:1", replay=False)
    a.ledger.append(owned, numbered(1, 3))
    assert (await a.broker.publish("room:1", b"1", size=5, ttl=5.0, idempotency_key="k")).offset == 1
    await a.broker.publish("room:1", b"loose")
    await stream.reaches(3)
    await room.until(lambda: room.items and room.loose)
    assert await a.ledger.renew() == []
    assert await a.broker.listeners(["gen:1"]) == [1]
    assert await a.broker.signal("b", b"hello")
    assert await a.broker.signal_all(b"all") == 2
    await eventually(lambda: b.signals == [b"hello", b"all"])
    assert await b.ledger.expired() == []
    assert not await b.ledger.seal("gen:1", 3, [LAST])
    assert await b.ledger.record("gen:1") is not None
    assert (await b.archive.page("room:1")).top == 1
    await b.archive.remove("room:1")
    await a.presence.enter("room:1", "c", b'{"user":"u"}')
    await a.presence.renew([("room:1", "c", b'{"user":"u"}')])
    assert await b.presence.count("room:1") == (1, 1)
    assert list(await b.presence.present("room:1")) == ["c"]
    await a.presence.leave("room:1", "c")
    assert await a.keys.reserve("k", b"v", 5.0) is None
    assert await b.keys.take("k") == b"v"
    b.hub.drop(subscription)
    a.ledger.append(owned, [LAST], close=True)
    await eventually(lambda: a.ledger.log("gen:1") is None)
    await a.broker._compare(["room:1"])


async def test_a_user_with_exactly_the_documented_rules_suffices_and_is_kept_to_the_prefix(
    valkey: ValkeyServer, prefix: str
) -> None:
    admin = Client(create_topology(BrokerConfig(redis_url=valkey.url)), timeout=2.0, patience=1.0)
    (rules,) = RULES.findall(PAGE.read_text())
    await admin.command("ACL", "LOG", "RESET")
    await admin.command("SCRIPT", "FLUSH")  # EVAL and SCRIPT LOAD are among what it must be allowed.
    await admin.command(
        "ACL", "SETUSER", "gateway", *rules.replace("tg:", prefix).replace("<password>", "secret").split()
    )
    try:
        url = valkey.url.replace("unix://", "unix://gateway:secret@")
        async with Replica(url, prefix, "a", timeout=2.0) as a, Replica(url, prefix, "b", timeout=2.0) as b:
            await use_everything(a, b)
        log = await admin.command("ACL", "LOG")
        assert log == []
        async with Replica(valkey.url, "other:", "c", timeout=2.0) as other:
            await other.broker.publish("room:1", b"1", size=1, ttl=1.0)
        client = Client(create_topology(BrokerConfig(redis_url=url)), timeout=1.0, patience=0.5)
        for refused in (("GET", "other:x"), ("PUBLISH", "other:x", "1"), ("FLUSHALL",), ("CONFIG", "GET", "*")):
            with pytest.raises(BrokerUnavailable):
                await client.command(*refused)
        await client.close()
    finally:
        await admin.command("ACL", "DELUSER", "gateway")
        await admin.command("ACL", "LOG", "RESET")
        await admin.close()


async def test_the_documented_user_suffices_in_a_cluster(cluster_servers: ClusterServers, prefix: str) -> None:
    (rules,) = RULES.findall(PAGE.read_text())
    words = rules.replace("tg:", prefix).replace("<password>", "secret").split()
    for master in cluster_servers.masters:
        master.redis.execute_command("ACL", "SETUSER", "gateway", *words)
        master.redis.execute_command("SCRIPT", "FLUSH")
    try:
        seeds = tuple(str(master.address) for master in cluster_servers.masters)

        def where() -> Topology:
            return create_topology(BrokerConfig(cluster=seeds, username="gateway", password="secret"))

        async with Replica(where, prefix, "a", timeout=2.0) as a, Replica(where, prefix, "b", timeout=2.0) as b:
            await use_everything(a, b)
        assert all(master.redis.execute_command("ACL", "LOG") == [] for master in cluster_servers.masters)
    finally:
        for master in cluster_servers.masters:
            master.redis.execute_command("ACL", "DELUSER", "gateway")


async def test_every_key_begins_with_the_prefix(valkey: ValkeyServer, prefix: str) -> None:
    admin = Client(create_topology(BrokerConfig(redis_url=valkey.url)), timeout=2.0, patience=1.0)
    before = set(await admin.command("KEYS", "*"))
    async with Replica(valkey.url, prefix, "a", timeout=2.0) as a, Replica(valkey.url, prefix, "b", timeout=2.0) as b:
        await use_everything(a, b)
        channels = await admin.command("PUBSUB", "CHANNELS", "*")
        assert channels
        assert all(name.startswith(prefix.encode()) for name in channels)
    assert all(key.startswith(prefix.encode()) for key in set(await admin.command("KEYS", "*")) - before)
    await admin.close()


async def test_the_configuration_says_where_redis_is() -> None:
    def made(**values: object) -> Topology:
        return create_topology(BrokerConfig.model_validate(values))

    assert isinstance(made(redis_url="redis://h:1/2"), Standalone)
    assert isinstance(made(cluster=["h:1", "[::1]:2"]), Cluster)
    cluster = made(redis_url="redis+cluster://user:p%40ss@one:1,two:2")
    assert isinstance(cluster, Cluster)
    assert [str(seed) for seed in cluster._seeds] == ["one:1", "two:2"]
    assert (cluster._access.username, cluster._access.password) == ("user", "p@ss")
    sentinels = made(sentinels=["h:26379"], sentinel_master="m", password="p", sentinel_password="s")
    assert isinstance(sentinels, Sentinels)
    assert "p@ss" not in repr(cluster._access)


@pytest.mark.parametrize(
    "values",
    [
        {"sentinels": ["h:1"]},
        {"sentinel_master": "m"},
        {"cluster": ["h:1"], "redis_url": "redis://h"},
        {"cluster": ["h"]},
        {"cluster": ["redis://h:1"]},
        {"key_prefix": "{tg}"},
        {"tls_key": "file"},
    ],
)
def test_what_can_not_stand_together_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BrokerConfig.model_validate(values)
