"""Variables of the environment in the texts of a file."""

import pytest

from app.config import load_config
from app.config.variables import expanded, variables_in
from app.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}", {"A": ""}, ""),
        ("${A:-y}", {}, "y"),
        ("${A:-y}", {"A": ""}, "y"),
        ("${A:-http://h/?a=b:c}", {}, "http://h/?a=b:c"),
        ("$${A}", {"A": "x"}, "${A}"),
        ("${if}", {"if": "a name like others"}, "a name like others"),
        ("${if A then x else y}", {"A": "true"}, "x"),
        ("${if A then x else y}", {"A": "any"}, "x"),
        ("${if A then x else y}", {"A": "No"}, "y"),
        ("${if A then x else y}", {}, "y"),
        ("${if A:-true then x else y}", {}, "x"),
        ("${if A:-true then x else y}", {"A": "FALSE"}, "y"),
        ("${if A:-off then x else y}", {"A": ""}, "y"),
        ("${if A then x}", {"A": "0"}, ""),
        ("${if A then two words}!", {"A": "1"}, "two words!"),
        ("${if A then  else y}", {"A": "1"}, ""),
    ],
)
def test_a_text_says_what_its_variables_say(text, environ, value):
    assert expanded(text, environ) == value


@pytest.mark.parametrize("text", ["${", "${if A}", "${if A then", "${if then x}", "${if A else y}", "${1A}", "${A:x}"])
def test_what_is_of_no_form_is_refused(text):
    with pytest.raises(ValueError, match=r"is not of the form"):
        expanded(text, {"A": "x"})


def test_the_variables_of_a_text_are_known_before_it_is_read():
    assert variables_in("${A}-${B:-c}-$${C}-${if D:-true then E else F}-${") == {"A", "B", "D"}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return write


def test_an_entry_that_comes_out_empty_is_none(write):
    path = write(
        "[server.cors]\norigins = ['${A:-}', 'http://localhost:*', '${B:-}', '${if C then http://c}']\n"
        "[upstreams.a]\ntargets = ['${T:-}', 'http://t']\n"
    )
    config = load_config(path, {"B": "https://b.example"})
    assert config.server.cors.origins == ("http://localhost:*", "https://b.example")
    assert config.upstreams["a"].targets == ("http://t",)


def test_a_text_may_hold_a_whole_list(write):
    path = write("[server]\nallowed_origins = '${ORIGINS:-http://a:1,http://b:2}'\n")
    assert load_config(path, {}).server.allowed_origins == ("http://a:1", "http://b:2")
    assert load_config(path, {"ORIGINS": "http://c"}).server.allowed_origins == ("http://c",)


def test_a_variable_that_the_file_names_is_no_mistaken_setting(write):
    path = write("[auth]\nsecret = '${GATEWAY_AUTH_SECRET}'\n[server]\nhost = '${GATEWAY_SERVER__HOTS:-h}'\n")
    environ = {"GATEWAY_AUTH_SECRET": "s" * 32, "GATEWAY_SERVER__HOTS": "other"}
    config = load_config(path, environ)
    assert (config.auth.secret.get_secret_value(), config.server.host) == ("s" * 32, "other")
    with pytest.raises(ConfigError, match="Did you mean GATEWAY_AUTH__SECRET"):
        load_config(None, environ)


def test_a_setting_that_the_file_names_still_counts_as_one(write):
    path = write("[server]\nlog_level = '${GATEWAY_SERVER__PORT:-info}'\n")
    with pytest.raises(ConfigError, match=r"server\.log_level must be"):
        load_config(path, {"GATEWAY_SERVER__PORT": "9"})
