"""Other servers beside the gateway: each that is installed really carries what the benchmark asks of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.client import text_frame
from loadtests.bench.crowd import Crowd
from loadtests.bench.followers import Followers
from loadtests.bench.lab import Lab
from loadtests.bench.peers import catalogue, install
from loadtests.bench.peers.catalogue import PEERS, Peer, installed_version, peers_for
from loadtests.bench.returning import RETURNING
from loadtests.bench.sides import peer_side

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def test_each_peer_has_a_program_and_its_name_once() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        assert Path(peer.command(1, 2, Path())[1]).is_file()
        assert peer.version or peer.origin in ("Debian", "here"), f"{peer.name} is not pinned"


def test_clients_that_come_back_are_those_of_servers_that_there_are() -> None:
    assert set(RETURNING) <= {peer.name for peer in peers_for("channels")}


@pytest.mark.parametrize("peer", peers_for("channels") + peers_for("sends"), ids=lambda peer: peer.name)
async def test_what_one_publishes_comes_to_all_and_who_was_cut_comes_back(peer: Peer, tmp_path: Path) -> None:
    if installed_version(peer) is None:
        pytest.skip("not installed: make bench-peers")
    with Lab(tmp_path) as lab:
        side = peer_side(peer, lab.peers([peer], 1)[peer.name])
        crowd = Crowd(side.target.port)
        side.gather(crowd, 3)
        greet = text_frame(side.greet("bench")) if side.greet is not None else b""
        publisher = crowd.publisher(side.target.handshake(), side.target.greeting, greet, side.greeted)
        assert crowd.fan(publisher, text_frame(side.message), 8, 4) == 0
        assert crowd.closed == 0
        crowd.close()
        if peer.name in RETURNING:
            followers = Followers(side.target, 5, RETURNING[peer.name])
            await followers.start()
            async with followers.publishing(rate=20.0):
                await followers.cut(pause=0.3)
            await followers.settle()
            followers.close()
            assert None not in followers.back
            assert followers.doubled == 0
            assert (followers.lost == 0) == (peer.name == "Socket.IO"), followers.lost


def test_a_peer_that_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    installed_version.cache_clear()
    try:
        assert {peer.origin for peer in PEERS if installed_version(peer) is not None} == {"here"}
    finally:
        installed_version.cache_clear()


def test_what_cannot_be_had_is_said_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (catalogue, install):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "peers")
        monkeypatch.setattr(module, "PEERS", tuple(peer for peer in PEERS if peer.origin != "PyPI"))
    monkeypatch.setenv("PATH", str(tmp_path))
    installed_version.cache_clear()
    try:
        assert install.main() == 0
    finally:
        installed_version.cache_clear()
    said = capsys.readouterr()
    assert "npm is not here; Node 18 or newer brings it" in said.err
    assert "as root: apt-get install nats-server nginx-light" in said.err
    assert "Socket.IO        - (the benchmark goes on without it)" in said.out
