"""Configurations that come with the program: where they are found, and what is laid over them."""

import pickle
import tomllib
from functools import partial
from pathlib import Path

import pytest

from app.config import Source, load_config, preset_names, preset_summary
from app.errors import ConfigError
from app.http.route_checks import unreachable_routes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "over.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_right_as_it_comes_and_says_what_it_is_for(name):
    assert load_config(None, {}, preset=name).routes
    assert 20 < len(preset_summary(name)) < 120


def test_a_preset_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"no preset 'dem'\. Did you mean demo\?"):
        load_config(None, {}, preset="dem")
    with pytest.raises(ConfigError, match=r"There are: .*demo"):
        load_config(None, {}, preset="../../etc/passwd")


def test_a_file_lies_over_the_preset_and_the_environment_over_both(write):
    path = write("[server]\nport = 1\n[upstreams.chat]\nconnect_timeout = 1.5\n[auth]\nalgorithms = ['HS256']\n")
    config = load_config(path, {"GATEWAY_UPSTREAMS__CHAT__CONNECT_TIMEOUT": "2"}, {"server.host": "h"}, preset="demo")
    assert (config.server.port, config.server.host) == (1, "h")
    chat = config.upstreams["chat"]
    assert (chat.connect_timeout, chat.targets) == (2, ("http://127.0.0.1:8002",))
    assert "image" in config.upstreams


def test_variables_are_read_in_the_file_and_in_the_preset(write):
    path = write("[server]\nport = '${MINE:-7}'\n")
    config = load_config(path, {"MINE": "8", "CHAT_PORT": "9"}, preset="demo")
    assert (config.server.port, config.upstreams["chat"].targets) == (8, ("http://127.0.0.1:9",))


def test_routes_of_the_file_replace_those_of_the_same_place_and_else_come_first(write):
    before = load_config(None, {}, preset="demo").routes
    path = write(
        "[[routes]]\npath = '/mine'\nupstream = 'chat'\nlabel = '${LABEL:-l}'\n"
        "[[routes]]\npath = '/v1/*'\nupstream = 'chat'\nauth = 'none'\n"
        "[[routes]]\npath = '/tts/*'\nmethods = ['get']\nupstream = 'speech'\n"
    )
    routes = load_config(path, {}, preset="demo").routes
    assert [route.path for route in routes] == ["/mine", "/tts/*", *(route.path for route in before)]
    assert (routes[0].label, routes[1].methods, routes[-1].auth) == ("l", ("GET",), "none")
    assert routes[2:-1] == before[:-1]


def test_a_route_of_the_file_replaces_all_that_it_covers_wherever_the_prefix_lies(write):
    path = write(
        "[[routes]]\npath = '/v2/images/generation/{id}'\nupstream = 'images'\nauth = 'optional'\n"
        "[[routes]]\npath = '${API_PREFIX}/code/generate'\nmethods = ['post']\nhosts = ['A.example']\n"
        "upstream = 'code'\n"
    )
    config = load_config(path, {"API_PREFIX": "/v2"}, preset="screenshot-to-code")
    same = [route for route in config.routes if route.path == "/v2/images/generation/{id}"]
    assert [(route.auth, len(route.methods)) for route in same] == [("optional", 7)]
    assert [route.hosts for route in config.routes if route.path.endswith("code/generate")] == [("a.example",), ()]
    assert unreachable_routes(config.routes) == []


def test_what_is_no_route_is_told_as_such(write):
    with pytest.raises(ConfigError, match=r"over\.toml: routes\[0\] must be a table"):
        load_config(write("routes = [3]\n"), {}, preset="demo")
    with pytest.raises(ConfigError, match=r"over\.toml: routes\[0\]\.path needs the variable NONE"):
        load_config(write("[[routes]]\npath = '${NONE}'\nupstream = 'chat'\n"), {}, preset="demo")


def test_an_open_gateway_is_refused_in_production():
    environ = {"ENABLE_AUTHENTICATION": "false", "ENVIRONMENT": "production", "JWT_SECRET": "s" * 32}
    with pytest.raises(ConfigError, match=r"realtime\.insecure is for development only"):
        load_config(None, environ, preset="screenshot-to-code")


def test_a_preset_is_read_again_with_what_lies_over_it(write):
    path = write("[upstreams.chat]\nconnect_timeout = 1\n")
    load = partial(load_config, path, {}, None, "demo")
    started = load()
    path.write_text("[upstreams.chat]\nconnect_timeout = 2\n")
    reloaded = pickle.loads(pickle.dumps(Source(load, started))).reload(started)
    assert reloaded.config.upstreams["chat"].connect_timeout == 2
    assert reloaded.config.routes == started.routes
    assert reloaded.needs_restart == ()


def test_a_fault_says_whether_the_file_or_the_preset_is_wrong(write):
    path = write("[server]\nprot = 1\n[[routes]]\npath = 'x'\nupstream = 'chat'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"CHAT_PORT": "nine"}, preset="demo")
    lines = caught.value.message.splitlines()
    assert any(line.startswith(f"{path}: server.prot is not a setting") for line in lines)
    assert any(line.startswith(f"{path}: routes[0].path must start with /") for line in lines)
    assert any(line.startswith("the preset demo: upstreams.chat.targets holds") for line in lines)


def test_an_installed_program_has_its_presets():
    """Files that are no modules are in a wheel only where ``package-data`` names them."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["app"]
    shipped = {path.name for pattern in patterns for path in (ROOT / "app").glob(pattern)}
    assert {f"{name}.toml" for name in preset_names()} <= shipped
