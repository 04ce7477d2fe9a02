"""What is taken from a configuration that is read again, what is left and named, and what is refused."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest

from app.config import Config, Source, load_config
from app.errors import ConfigError

FIRST = """
[server]
port = 9000
body_limit = 1000
[auth]
secret = "a secret of thirty-two bytes or more"
[upstreams.chat]
targets = ["http://127.0.0.1:1"]
[[routes]]
path = "/a/*"
upstream = "chat"
"""


def source(path: Path) -> tuple[Source, Config]:
    load = partial(load_config, path, {}, {})
    config = load()
    return pickle.loads(pickle.dumps(Source(load, config))), config


def test_what_can_change_is_taken_and_the_rest_is_named(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(FIRST)
    origin, running = source(path)
    path.write_text(
        FIRST.replace("/a/", "/b/").replace("9000", "9001").replace("1000", "2000").replace("thirty-two", "32")
        + '[broker]\nkey_prefix = "other"\n[generations]\nmax_running = 7\nlease = 9.0\n'
    )
    reloaded = origin.reload(running)
    assert reloaded.config.routes[0].path == "/b/*"
    assert reloaded.config.server.body_limit == 2000
    assert "32" in reloaded.config.auth.secret.get_secret_value()
    assert reloaded.config.generations.max_running == 7
    assert (reloaded.config.server.port, reloaded.config.generations.lease) == (9000, running.generations.lease)
    assert set(reloaded.needs_restart) == {"server.port", "broker.key_prefix", "generations.lease"}


def test_what_was_settled_at_the_start_stays_and_is_not_named(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(FIRST)
    origin, loaded = source(path)
    running = loaded.model_copy(update={"broker": loaded.broker.model_copy(update={"redis_url": "unix:///x"})})
    reloaded = origin.reload(running)
    assert reloaded.needs_restart == ()
    assert reloaded.config == running


def test_a_faulty_file_is_refused_with_the_place(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(FIRST)
    origin, running = source(path)
    path.write_text(FIRST.replace('upstream = "chat"', 'upstream = "chta"'))
    with pytest.raises(ConfigError, match=r"gateway\.toml: routes\[0\]\.upstream"):
        origin.reload(running)
    path.unlink()
    with pytest.raises(ConfigError, match=r"gateway\.toml: there is no such file"):
        origin.reload(running)


def test_a_production_gateway_does_not_take_the_development_secret_with_its_environment(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text(FIRST.replace("[server]", '[server]\nenvironment = "production"'))
    origin, running = source(path)
    path.write_text(FIRST.replace('secret = "a secret of thirty-two bytes or more"', ""))
    with pytest.raises(ConfigError, match=r"auth\.secret"):
        origin.reload(running)
