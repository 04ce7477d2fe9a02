"""Logs hold no secrets, whoever writes them."""

import io
import json
import logging

import pytest
import structlog
from pydantic import SecretStr

from app.observe.logs import REDACTED, configure_logging, redact, redact_text

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLXRoaXM"


@pytest.fixture(autouse=True)
def restore():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = False
    structlog.reset_defaults()


@pytest.fixture(params=["console", "json"])
def output(request):
    stream = io.StringIO()
    configure_logging("debug", request.param, stream)
    return stream


@pytest.mark.parametrize(
    "name",
    [
        *("authorization", "Authorization", "token", "access_token", "ticket", "cookie", "Set-Cookie", "password"),
        *("secret", "client_secret", "api_key", "X-API-Key", "openai_api_key", "sec-websocket-protocol"),
        *("private_key", "prompt"),
    ],
)
def test_values_are_hidden_by_their_name(name):
    assert redact(None, "info", {name: "hunter2"}) == {name: REDACTED}
    assert redact(None, "info", {"headers": {name: "hunter2"}}) == {"headers": {name: REDACTED}}
    assert "hunter2" not in str(redact(None, "info", {"headers": [(name.encode(), b"hunter2")]}))


@pytest.mark.parametrize("name", ["token_id", "tokens", "prompt_tokens", "max_tokens", "ticket_ttl", "secretary"])
def test_names_that_only_resemble_are_kept(name):
    assert redact(None, "info", {name: "kept"}) == {name: "kept"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"got {JWT} here", "got [redacted] here"),
        (f"tidegate.v1, bearer.{JWT}", "tidegate.v1, bearer.[redacted]"),
        (f"Authorization: Bearer {JWT}", "Authorization: Bearer [redacted]"),
        ("Bearer opaque-token", "Bearer [redacted]"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic [redacted]"),
        ("Basic English is kept", "Basic English is kept"),
        ("/ws?ticket=abc&x=1", "/ws?ticket=[redacted]&x=1"),
        (f"/ws?x=1&access_token={JWT}#a", "/ws?x=1&access_token=[redacted]#a"),
        ("redis://user:hunter2@host:6379/0", "redis://[redacted]@host:6379/0"),
        ("redis://:hunter2@host", "redis://[redacted]@host"),
        ("key eyes.only and hey.you", "key eyes.only and hey.you"),
        ("http://host:80/a?b=c", "http://host:80/a?b=c"),
    ],
)
def test_credentials_are_hidden_wherever_they_stand(text, kept):
    assert redact_text(text) == kept


def test_every_kind_of_value_is_looked_at():
    class Request:
        def __repr__(self) -> str:
            return f"<Request token={JWT}>"

    values = {
        "a": JWT.encode(),
        "b": [JWT],
        "c": {"d": (JWT, 1)},
        "e": ValueError(JWT),
        "f": Request(),
        "g": {JWT: 1},
        "h": SecretStr(JWT),
        "i": {JWT},
    }
    assert JWT not in repr(redact(None, "info", values))


def test_numbers_and_truths_stay_what_they_are():
    assert redact(None, "info", {"a": 1, "b": 1.5, "c": True, "d": None}) == {"a": 1, "b": 1.5, "c": True, "d": None}


def test_nesting_is_bounded():
    value: list = []
    value.append(value)
    assert "…" in repr(redact(None, "info", {"a": value}))


def test_the_gateways_own_events_and_libraries_pass_the_same_way(output):
    structlog.get_logger("app.x").info("hello", user="42", token=JWT, url=f"/ws?ticket={JWT}")
    logging.getLogger("some.library").warning("got %s", JWT)
    text = output.getvalue()
    assert JWT not in text
    assert "hello" in text
    assert "42" in text
    assert "got [redacted]" in text


def test_exceptions_are_told_without_secrets_and_without_local_variables(output):
    local = "hunter2-in-a-local-variable"
    try:
        raise RuntimeError(f"bad token {JWT}")
    except RuntimeError:
        structlog.get_logger("app.x").exception("failed")
        logging.getLogger("uvicorn.error").exception("failed too")
    text = output.getvalue()
    assert text.count("RuntimeError: bad token [redacted]") == 2
    assert JWT not in text
    assert f"= {local!r}" not in text


def test_uvicorns_lines_with_queries_are_dropped_and_its_others_kept(output):
    error = logging.getLogger("uvicorn.error")
    error.info('%s - "WebSocket %s" [accepted]', "1.2.3.4", "/ws?token=hunter2")
    error.info('%s - "WebSocket %s" 403', "1.2.3.4", "/ws?token=hunter2")
    error.info("connection open")
    error.info("connection closed")
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4", "GET", "/?q=hunter2", "1.1", 200)
    error.info("Started server process [%d]", 7)
    text = output.getvalue()
    assert "hunter2" not in text
    assert "connection" not in text
    assert "Started server process [7]" in text


def test_http_clients_do_not_log_urls(output):
    logging.getLogger("httpx").info("HTTP Request: GET %s", "http://h/?secret=hunter2")
    assert output.getvalue() == ""


def test_the_level_holds_for_all():
    stream = io.StringIO()
    configure_logging("warning", "json", stream)
    structlog.get_logger("app.x").info("quiet")
    logging.getLogger("library").info("quiet")
    structlog.get_logger("app.x").warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_json_is_one_object_a_line():
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    structlog.get_logger("app.x").info("two\nlines", text="a\nb")
    logging.getLogger("uvicorn.error").info("from %s", "uvicorn")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"], first["text"]) == ("two\nlines", "info", "app.x", "a\nb")
    assert first["timestamp"].endswith("Z")
    assert second["event"] == "from uvicorn"


def test_setting_up_twice_writes_each_line_once():
    stream = io.StringIO()
    for _ in range(2):
        configure_logging("info", "json", stream)
    logging.getLogger("uvicorn.error").info("once")
    structlog.get_logger("app.x").info("once")
    assert len(stream.getvalue().splitlines()) == 2
