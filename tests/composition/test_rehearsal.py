"""What a configuration names and this machine cannot use is told before anything is started."""

from __future__ import annotations

import pytest

from app.composition.rehearsal import refuse_unusable
from app.config import Config
from app.errors import ConfigError


def configured(**tables):
    return Config.model_validate(tables)


def test_what_can_be_used_passes_and_nothing_is_made(tmp_path):
    folder = tmp_path / "recordings" / "of-today"
    refuse_unusable(
        configured(
            broker={"redis_url": "redis://127.0.0.1:1/0"},
            upstreams={"a": {"targets": ["https://127.0.0.1:1"]}},
            events={"enabled": True, "sinks": [{"kind": "sql", "url": f"sqlite:///{tmp_path}/events.db"}]},
            recorder={"folder": str(folder), "share": 1.0},
        )
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"broker": {"redis_url": "rediss://h", "tls_ca": "none.pem"}}, r"broker\.tls_ca: there is no file none\.pem"),
        ({"upstreams": {"a": {"targets": ["https://h"], "tls_ca": "none.pem"}}}, r"upstreams\.a\.tls_ca: is not"),
        ({"events": {"sinks": [{"kind": "sql", "url": "sqlite:////none/such/e.db"}]}}, r"/none/such .* Make it"),
        ({"events": {"sinks": [{"kind": "sql", "url": "mysql://h/e"}]}}, r"Use sqlite or postgresql"),
        (
            {"recorder": {"folder": "/dev/null/recordings", "users": ["42"]}},
            r"recorder\.folder: nothing can be written",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_cure(tables, says):
    with pytest.raises(ConfigError, match=says):
        refuse_unusable(configured(**tables))


def test_a_recorder_that_records_nobody_needs_no_folder():
    refuse_unusable(configured(recorder={"folder": "/dev/null/recordings"}))
