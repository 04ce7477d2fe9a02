"""What an encoder writes, the decoder of the same family reads: the same events, but for how they are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest

from app.generations.event_json import encode
from app.generations.events import Cancelled, Completed, Delta, Event, Failed, Receipt, Started, Usage
from app.generations.formats import STREAM_DECODERS
from app.generations.formats.served.chat_completions import ChatStream
from app.generations.formats.served.images import ImageStream
from app.generations.formats.served.responses import ResponseSse, ResponseStream
from app.generations.formats.served.ui_messages import UiMessageStream
from app.generations.formats.served.wire import Wire
from app.generations.merging import EventMergeRule
from tests.support.recordings import RECORDINGS

RECEIPT = Receipt(9, 1, "0" * 64)
WIRES: dict[str, Callable[[], Wire]] = {
    "openai-chat": lambda: ChatStream("chatcmpl-1", "m1", 1_730_000_000, usage=True),
    "openai-responses": lambda: ResponseSse(ResponseStream("resp_1", 1_730_000_000, "m1", {})),
    "vercel-ai": lambda: UiMessageStream("gen_1"),
}
TEXT = ["openai-chat", "openai-responses", "anthropic", "ollama", "ollama-generate", "vercel-ai"]
each_wire = pytest.mark.parametrize("wire", WIRES)


def texts_of(events: Iterable[Event]) -> list[bytes]:
    ends = (Completed, Failed, Cancelled)
    return [encode(event, RECEIPT if isinstance(event, ends) else None) for event in events]


def merged(items: list[bytes]) -> list[bytes]:
    """Merge neighbours, as a slow reader gets them."""
    rule, result = EventMergeRule(), list[bytes]()
    for item in items:
        key = rule.key(item)
        if result and key is not None and key == rule.key(result[-1]):
            result[-1:] = [data for data, _ in rule.combine(key, [result[-1], item])]
        else:
            result.append(item)
    return result


def through(name: str, items: list[bytes], step: int | None = None) -> list[Event]:
    """Encode, decode in pieces of ``step`` bytes, and return the events."""
    wire, decoder = WIRES[name](), STREAM_DECODERS[name]()
    body = b"".join(wire.take(item) for item in items)
    events: list[Event] = []
    for at in range(0, len(body), step or len(body)):
        events += decoder.feed(body[at : at + (step or len(body))])
    if not decoder.answer.ended:
        events += decoder.end()
    assert (decoder.answer.malformed, decoder.answer.unknown) == (0, 0)
    return events


def said(events: Iterable[Event], part: str) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.part == part)


def calls(events: Iterable[Event]) -> dict[str, str]:
    """Return the arguments of each call by its name: its number is the encoder's to choose."""
    names, given = dict[int, str](), dict[str, str]()
    for line in said(events, "tool").splitlines():
        fragment = orjson.loads(line)
        if "function" not in fragment:
            continue
        name = names.setdefault(fragment["index"], fragment["function"].get("name"))
        given[name] = given.get(name, "") + fragment["function"]["arguments"]
    return given


def usage(events: Iterable[Event]) -> list[Usage]:
    return [event for event in events if isinstance(event, Usage)]


@each_wire
@pytest.mark.parametrize("name", TEXT)
def test_an_answer_of_any_family_is_the_same_after_the_journey(wire: str, name: str) -> None:
    events: list[Event] = [Started("m1", "chat"), *RECORDINGS[name].means]
    for items in (texts_of(events), merged(texts_of(events))):
        for step in (None, 1, 7):
            again = through(wire, items, step)
            assert said(again, "text") == said(events, "text")
            assert said(again, "reasoning") == said(events, "reasoning")
            assert calls(again) == calls(events)
            assert usage(again) == usage(events)
            assert isinstance(again[-1], Completed)
            if wire != "openai-responses" or not calls(events):  # It does not say whether it waits for its calls.
                assert again[-1].reason == events[-1].reason  # type: ignore[union-attr]


@each_wire
@pytest.mark.parametrize(
    "text", ["", '"', "\\", "\n\r\t\0\x7f", "data: [DONE]\n\n", "\u2028😀e\u0301", '"}', '"part":"tool"}']
)
@pytest.mark.parametrize("part", ["text", "reasoning"])
def test_a_text_of_any_characters_arrives(wire: str, text: str, part: Any) -> None:
    events: list[Event] = [Started(None, "chat"), Delta(text + "x", part), Completed("stop")]
    assert said(through(wire, texts_of(events)), part) == text + "x"


@each_wire
@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_is_one_with_its_message_and_whether_to_try_again(wire: str, retryable: bool) -> None:
    events: list[Event] = [Started(None, "chat"), Delta("so far"), Failed("upstream_error", "It broke.", retryable)]
    again = through(wire, texts_of(events))
    assert said(again, "text") == "so far"
    assert isinstance(again[-1], Failed)
    assert again[-1].message == "It broke."
    if wire != "vercel-ai":  # It tells a message and nothing else.
        assert again[-1].retryable is retryable


@each_wire
def test_a_cancelled_generation_does_not_look_complete(wire: str) -> None:
    again = through(wire, texts_of([Started(None, "chat"), Delta("so far"), Cancelled("user")]))
    assert said(again, "text") == "so far"
    assert isinstance(again[-1], (Failed, Cancelled))


@each_wire
def test_what_is_cut_anywhere_before_its_end_is_never_complete(wire: str) -> None:
    encoder = WIRES[wire]()
    items = texts_of([Started("m1", "chat"), *RECORDINGS["anthropic"].means])
    body = b"".join(encoder.take(item) for item in items)
    for end in range(len(body) - 2):  # Without the last line end it is whole.
        decoder = STREAM_DECODERS[wire]()
        events = decoder.feed(body[:end])
        if not decoder.answer.ended:
            events += decoder.end()
        if isinstance(events[-1], Completed):
            assert body[:end].rstrip() == body.rstrip()
        else:
            assert isinstance(events[-1], Failed)


def test_an_image_and_the_looks_at_it_are_the_same_after_the_journey() -> None:
    means: list[Event] = [Started("m1", "image"), *RECORDINGS["openai-images"].means]
    wire, decoder = ImageStream(1_730_000_000, {"size": "1024x1024"}, 3), STREAM_DECODERS["openai-images"]()
    again = decoder.feed(b"".join(wire.take(item) for item in texts_of(means)))
    assert again == means[1:]
    failing, decoder = ImageStream(1, {}, 0), STREAM_DECODERS["openai-images"]()
    failed = decoder.feed(b"".join(failing.take(item) for item in texts_of([Completed("stop")])))
    assert isinstance(failed[-1], Failed), "an end without an image is none"
