"""Events read as their receiver wants them, and can be written whatever a token or an upstream has put into them."""

from __future__ import annotations

from datetime import datetime

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.config import EVENT_FIELDS
from app.events.encoding import encoder, plain
from tests.events.support import event


def test_an_event_has_all_fields_in_their_order_and_its_time_as_text():
    value = plain(event(latency_ms=12.34567))
    assert tuple(value) == EVENT_FIELDS
    assert (value["timestamp"], value["latency_ms"]) == ("2027-01-15T08:00:01.125Z", 12.346)


def test_fields_get_other_names_dots_make_objects_and_text_stands_for_itself():
    encode = encoder(
        {
            "service_type": "service",
            "metadata.response_time": "latency_ms",
            "metadata.error": "error_code",
            "from": "=gw",
        }
    )
    assert encode(event()) == {
        "service_type": "llm_chat",
        "metadata": {"response_time": 12.5, "error": None},
        "from": "gw",
    }


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_whatever_text_a_token_holds_the_event_can_be_written_without_nul(text):
    written = orjson.dumps(plain(event(user_id=text, company_id=text, model=text)))
    assert b"\\u0000" not in written
    assert len(orjson.loads(written)["user_id"]) == len(text)


@given(st.floats(0, 4e9))
def test_a_moment_is_read_again_to_the_millisecond(moment):
    text = plain(event(timestamp=moment))["timestamp"]
    assert len(text) == len("2027-01-15T08:00:01.125Z")
    assert -1e-6 <= moment - datetime.fromisoformat(text).timestamp() < 0.001 + 1e-6
