"""What a language model's call asks for and what it cost, read from bytes that pass by."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.token_usage import CallUsage, UsageReader
from app.limits.calls import TokenCall, read_call

EVENTS = b"text/event-stream; charset=utf-8"
JSON = b"application/json"
CALL = TokenCall(50, 100, "gpt-4o", streamed=True)


def sse(*values: object) -> bytes:
    return b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)


def delta(text: str, **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


OPENAI = (
    sse(
        delta("Hello wörld"),
        delta(" 😀", usage=None),
        {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}},
    )
    + b"data: [DONE]\n\n"
)
ANTHROPIC = b"".join(
    b"event: %b\r\ndata: %b\r\n\r\n" % (str(value["type"]).encode(), orjson.dumps(value))
    for value in (
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 6,
                                                        "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    )
)  # fmt: skip
RESPONSES = sse(
    {"type": "response.output_text.delta", "delta": "Hello there"},
    {"type": "response.completed", "response": {"usage": {"input_tokens": 11, "output_tokens": 7}}},
)


def read(body: bytes, *, media: bytes = EVENTS, status: int = 200, complete: bool = True, call: TokenCall = CALL,
         cuts: tuple[int, ...] = ()) -> CallUsage:  # fmt: skip
    reader = UsageReader(call, status, media)
    for start, end in zip((0, *cuts), (*cuts, len(body)), strict=True):
        reader.feed(body[start:end])
    return reader.usage(complete=complete, reserved=150)


@pytest.mark.parametrize("body", [OPENAI, ANTHROPIC, RESPONSES], ids=["chat", "messages", "responses"])
def test_the_figures_are_read_wherever_the_bytes_are_cut(body: bytes) -> None:
    for cut in range(len(body) + 1):
        assert read(body, cuts=(cut,)) == CallUsage(11, 7, "provider"), cut
    assert read(body, cuts=tuple(range(1, len(body)))) == CallUsage(11, 7, "provider")


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}, (3, 4)),
        ({"content": [{"type": "text", "text": "Hi"}], "usage": {"input_tokens": 3, "output_tokens": 4}}, (3, 4)),
        ({"output": [], "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}, (3, 4)),
        ({"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}, (3, 0)),
    ],
)
def test_documents_of_each_api_are_read(document: object, usage: tuple[int, int]) -> None:
    assert read(orjson.dumps(document), media=JSON) == CallUsage(*usage, "provider")


def test_the_figures_at_the_end_of_a_document_that_is_too_long_to_be_kept_are_found() -> None:
    rows = [{"embedding": [0.123456789] * 1000} for _ in range(150)]
    details = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    body = orjson.dumps({"data": rows, "usage": details})
    assert len(body) > 1024 * 1024
    cuts = tuple(range(65536, len(body), 65536))
    assert read(body, media=JSON, cuts=cuts) == CallUsage(9, 2, "provider")


@pytest.mark.parametrize(
    "lie",
    [
        {"prompt_tokens": -1, "completion_tokens": -5},
        {"prompt_tokens": "11", "completion_tokens": "7"},
        {"prompt_tokens": 1.5, "completion_tokens": 2.5},
        {"prompt_tokens": True, "completion_tokens": True},
        {"prompt_tokens": 10**18, "completion_tokens": 10**18},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": 50, "completion_tokens": 0},
        {"completion_tokens": 1},
        [1, 2],
        "7",
        17,
    ],
    ids=str,
)
def test_figures_that_cannot_be_true_are_estimated(lie: object) -> None:
    text = "This is a sentence of nine or ten words. " * 20
    usage = read(sse(delta(text), {"choices": [], "usage": lie}))
    assert usage.source == "estimated"
    assert usage.prompt == 50
    assert 150 < usage.completion < 260


def test_of_several_figures_the_largest_counts() -> None:
    growing = [delta("a", usage={"prompt_tokens": 9, "completion_tokens": number}) for number in (1, 2, 3, 0)]
    assert read(sse(*growing)) == CallUsage(9, 3, "provider")


def test_a_stream_without_figures_is_estimated_from_its_text() -> None:
    tool = {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Oslo"}'}}]}}]}
    assert read(sse(delta("Hello world, how are you?"), tool)).source == "estimated"
    assert read(sse(delta("Hello world, how are you?"))).completion == 7
    assert read(sse(tool)).completion >= 5


def test_a_message_of_anthropics_that_is_cut_does_not_cost_one_token() -> None:
    cut = ANTHROPIC[: ANTHROPIC.index(b"event: message_delta")]
    assert read(cut, complete=False) == CallUsage(11, 2, "estimated")
    long = cut.replace(b"Hello there", b"Hello there, " * 40)
    usage = read(long, complete=False)
    assert (usage.prompt, usage.source) == (11, "estimated")
    assert usage.completion > 100


def test_an_answer_in_one_piece_that_did_not_come_counts_as_reserved() -> None:
    usage = read(b'{"choices": [', media=JSON, complete=False)
    assert usage == CallUsage(50, 100, "estimated")


def test_a_refusal_costs_nothing_unless_it_says_so() -> None:
    assert read(b'{"error": {"message": "no"}}', media=JSON, status=429).total == 0
    body = orjson.dumps({"error": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 0}})
    assert read(body, media=JSON, status=400) == CallUsage(3, 0, "provider")


@given(st.binary(max_size=300), st.sampled_from([EVENTS, JSON, b""]))
def test_nothing_that_an_upstream_sends_does_harm(body: bytes, media: bytes) -> None:
    usage = read(body, media=media, cuts=tuple(range(1, len(body), 7)))
    assert usage.total >= 0


def test_deep_and_huge_answers_do_no_harm() -> None:
    deep = b'data: {"delta":' + b"[" * 5000 + b"]" * 5000 + b"}\n\n"
    assert read(deep).source == "estimated"
    assert read(b"data: " + b"x" * 3_000_000).source == "estimated"


def test_a_request_says_what_it_may_use() -> None:
    body = {"model": "gpt-4o", "stream": True, "max_tokens": 7, "max_completion_tokens": 30, "n": 3,
            "messages": [{"role": "user", "content": "Hello there, how are you?"}]}  # fmt: skip
    call = read_call(orjson.dumps(body), True)
    assert (call.answer, call.model, call.streamed) == (90, "gpt-4o", True)
    assert 8 <= call.prompt <= 14
    assert read_call(b'{"input": "x", "max_output_tokens": -3}', True).answer is None


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'"x"', b"17", b'{"max_tokens": -1, "n": 1e9}'])
def test_a_body_that_is_no_call_asks_for_little(body: bytes) -> None:
    assert read_call(body, True) == TokenCall(0)


def test_a_picture_in_a_prompt_is_not_counted_by_its_characters() -> None:
    picture = {"image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 50_000}}
    assert read_call(orjson.dumps({"messages": [{"content": [picture]}]}), True).prompt < 1000


def test_a_long_prompt_is_counted_by_a_sample() -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 20_000
    call = read_call(orjson.dumps({"messages": [{"content": text}]}), True)
    assert call.prompt == pytest.approx(200_000, rel=0.05)
