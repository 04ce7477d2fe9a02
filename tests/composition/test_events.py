"""Sinks as the configuration asks for them: what is refused says where and what to do."""

from __future__ import annotations

import sys

import pytest
from pydantic import ValidationError

from app.composition.events import create_events
from app.config import Config, EventSinkConfig
from app.errors import ConfigError
from app.http.transport import HttpTransport
from app.observe.outcomes import GenerationOutcomes, Outcomes


def config(*sinks, **events):
    return Config.model_validate(
        {"upstreams": {"analytics": {"targets": ["http://127.0.0.1:1"]}}, "events": {"sinks": sinks, **events}}
    )


def created(made: Config):
    return create_events(made, HttpTransport(made.upstreams), lambda: made.generations)


def test_without_sinks_or_switched_off_nothing_is_made():
    outcomes, generations = Outcomes(), GenerationOutcomes()
    for made in (created(config()), created(config({"kind": "log"}, enabled=False))):
        made.start(outcomes, generations)
        assert made.figures() == {}
    assert outcomes._listeners == generations._listeners == ()


async def test_each_sink_has_a_queue_of_its_own():
    events = created(config({"kind": "log"}, {"kind": "http", "name": "billing", "upstream": "analytics"}))
    assert set(events.figures()) == {"log", "billing"}
    await events.close(0)


def test_a_database_without_its_packages_names_the_cure(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("app.events.sinks.sql", "app.events.sql"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"pip install 'tidegate\[sql\]'"):
        created(config({"kind": "sql", "url": "sqlite:///events.db"}))


@pytest.mark.parametrize(
    ("sink", "says"),
    [
        ({"kind": "http"}, "upstream"),
        ({"kind": "http", "upstream": "nobody"}, "not under"),
        ({"kind": "sql"}, "sqlite:"),
        ({"kind": "http", "upstream": "analytics", "path": "events"}, "must start with /"),
        ({"kind": "http", "upstream": "analytics", "path": "/{service}"}, "batch to false"),
        ({"kind": "http", "upstream": "analytics", "path": "/{user_id}", "batch": False}, "user_id"),
        ({"kind": "http", "upstream": "analytics", "fields": {"a": "prompt"}}, "prompt"),
        ({"kind": "http", "upstream": "analytics", "fields": {"a": "id", "a.b": "service"}}, "both"),
        ({"kind": "nats"}, "kind"),
        ({"kind": "kafka"}, "kafka:9092"),
    ],
)
def test_a_sink_that_cannot_work_is_refused(sink, says):
    with pytest.raises(ValidationError, match=says):
        config(sink)


def test_two_sinks_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="name of its own"):
        config({"kind": "log"}, {"kind": "log"})


def test_the_secrets_of_a_sink_are_hidden():
    sink = EventSinkConfig(kind="sql", url="postgresql://u:hush@h/d", headers={"X-API-Key": "hush"})
    assert "hush" not in repr(sink)
