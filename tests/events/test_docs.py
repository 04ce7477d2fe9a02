"""The page on events says what events are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.config import EVENT_FIELDS
from app.events.encoding import plain
from tests.events.support import event

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
SCHEMA = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
TYPES = {"string": str, "number": (int, float), "integer": int, "null": type(None)}


def test_the_table_has_every_field_in_its_order():
    table = PAGE.split("## What an event says")[1].split("\n\n")[1]
    fields = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert tuple(fields) == EVENT_FIELDS


def test_the_schema_has_every_field():
    assert tuple(SCHEMA["required"]) == tuple(SCHEMA["properties"]) == EVENT_FIELDS


@pytest.mark.parametrize(
    "sample",
    [
        event(),
        event(user_id=None, company_id=None, status="error", status_code=None, error_code="client_gone"),
        event(kind="generation", model="m", prompt_tokens=1, completion_tokens=2, tokens_source="estimated",
              generation_id="gen_1", request_id=None, route=None, status_code=None),
    ],
)  # fmt: skip
def test_events_are_as_the_schema_says(sample):
    for name, value in plain(sample).items():
        rule = SCHEMA["properties"][name]
        if "enum" in rule:
            assert value in rule["enum"]
        else:
            kinds = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
            assert isinstance(value, tuple(TYPES[kind] if kind != "number" else float for kind in kinds))
