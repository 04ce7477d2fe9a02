"""Answers that begin anew, for readers whose format has no word for it, and for the one that has."""

from __future__ import annotations

import orjson

from app.generations.event_json import encode, is_reset, is_terminal
from app.generations.events import Completed, Delta, Receipt, Reset, Started, Switched
from app.generations.formats.served.screenshots import VariantFrames
from app.generations.formats.served.wire import unforgotten

STARTED = encode(Started("m", "a"))
VOID, KEPT = encode(Delta("void")), encode(Delta("kept"))
SWITCHED, RESET = encode(Switched("a", "b", "restart", "upstream_truncated")), encode(Reset(4))
COMPLETED = encode(Completed("stop"), Receipt(6, 4, "0" * 64))


def test_who_has_nothing_yet_gets_what_remains() -> None:
    assert unforgotten([STARTED, VOID, SWITCHED, RESET, KEPT], said=False) == [STARTED, KEPT]
    assert unforgotten([STARTED, VOID, RESET, VOID, RESET, KEPT, COMPLETED], said=False) == [STARTED, KEPT, COMPLETED]


def test_who_has_some_of_it_gets_a_failure_and_nothing_more() -> None:
    told = unforgotten([VOID, SWITCHED, RESET, KEPT, COMPLETED], said=True)
    assert told[:2] == [VOID, SWITCHED]
    assert is_terminal(told[2])
    assert orjson.loads(told[2])["type"] == "failed"
    assert len(told) == 3


def test_what_never_began_anew_is_as_it_was() -> None:
    assert unforgotten([STARTED, KEPT, COMPLETED], said=True) == [STARTED, KEPT, COMPLETED]


def test_a_text_cannot_pass_for_a_reset() -> None:
    assert is_reset(RESET)
    assert not is_reset(encode(Delta('{"type":"reset",')))


def test_screenshot_to_code_is_told_that_the_code_is_empty_again() -> None:
    frames = VariantFrames(0)
    sent = [
        orjson.loads(each) for item in (STARTED, VOID, SWITCHED, RESET, KEPT, COMPLETED) for each in frames.take(item)
    ]
    assert [(each["type"], each["value"]) for each in sent[:-1]] == [
        ("chunk", "void"),
        ("setCode", ""),
        ("chunk", "kept"),
        ("setCode", "kept"),
    ]
