"""Recordings of chat completions' streams as upstreams really send them, cut at every byte."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BadRequest, UpstreamTruncated
from app.generations.event_json import encode
from app.generations.events import TERMINALS, Completed, Delta, Event, Failed, Usage
from app.generations.formats import FORMATS
from app.generations.formats.openai_chat import openai_chat
from app.generations.formats.openai_request import PARAMETERS, request_body
from app.generations.formats.refusals import MESSAGE_LENGTH, clean, error_from_response

TRUNCATED = Failed("upstream_truncated", UpstreamTruncated.default_message, True)
HEAD = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1730000000,"model":"gpt-x",'


def chunk(delta: str, rest: str = '"finish_reason":null') -> bytes:
    return f'data: {HEAD}"choices":[{{"index":0,"delta":{delta},"logprobs":null,{rest}}}],"usage":null}}\n\n'.encode()


ROLE = chunk('{"role":"assistant","content":"","refusal":null}')
HELLO = ROLE + chunk('{"content":"Grüße"}') + chunk('{"content":" 👋🏽"}')
STOP = chunk("{}", '"finish_reason":"stop"')
USAGE = f'data: {HEAD}"choices":[],"usage":{{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}}}\n\n'.encode()
DONE = b"data: [DONE]\n\n"
SAID: list[Event] = [Delta("Grüße"), Delta(" 👋🏽")]
TOOLS = (
    '{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]}',
    '{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":"}},{"index":1,"function":{"arguments":"ü"}}]}',
)
ROUTER_ERROR = (
    b'data: {"id":"gen-1","model":"gpt-x","error":{"code":429,"message":"Slow down,\\nplease"},"choices":[]}\n\n'
)
ROUTER_ERROR_WITH_CHOICE = (
    b'data: {"id":"gen-1","error":{"code":"server_error","message":"Provider disconnected"},'
    b'"choices":[{"index":0,"delta":{"content":"!"},"finish_reason":"error"}]}\n\n'
)

RECORDINGS: dict[str, tuple[bytes, list[Event]]] = {
    "normal": (HELLO + STOP + DONE, [*SAID, Completed("stop")]),
    "with usage": (HELLO + STOP + USAGE + DONE, [*SAID, Usage(9, 2), Completed("stop")]),
    "CRLF": ((HELLO + STOP + USAGE + DONE).replace(b"\n", b"\r\n"), [*SAID, Usage(9, 2), Completed("stop")]),
    "no space after the colon": ((HELLO + DONE).replace(b"data: ", b"data:"), [*SAID, Completed("stop")]),
    "length": (HELLO + chunk("{}", '"finish_reason":"length"') + DONE, [*SAID, Completed("length")]),
    "usage in every chunk": (
        (HELLO + STOP).replace(b'"usage":null', b'"usage":{"prompt_tokens":9,"completion_tokens":1}') + DONE,
        [*SAID, Usage(9, 1), Completed("stop")],
    ),
    "reasoning": (
        ROLE
        + chunk('{"content":null,"reasoning_content":"Hm"}')
        + chunk('{"reasoning":"m.","reasoning_content":null}')
        + chunk('{"content":"42","reasoning":"both","reasoning_content":"both"}')
        + STOP
        + DONE,
        [
            Delta("Hm", "reasoning"),
            Delta("m.", "reasoning"),
            Delta("both", "reasoning"),
            Delta("42"),
            Completed("stop"),
        ],
    ),
    "tools": (
        ROLE + chunk(TOOLS[0]) + chunk(TOOLS[1]) + chunk("{}", '"finish_reason":"tool_calls"') + DONE,
        [
            Delta(
                '{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}\n',
                "tool",
            ),
            Delta(
                '{"index":0,"function":{"arguments":"{\\"city\\":"}}\n{"index":1,"function":{"arguments":"ü"}}\n',
                "tool",
            ),
            Completed("tool_calls"),
        ],
    ),
    "a function call of old": (
        chunk('{"function_call":{"name":"f","arguments":"{"}}') + DONE,
        [Delta('{"function_call":{"name":"f","arguments":"{"}}\n', "tool"), Completed("stop")],
    ),
    "refusal": (
        ROLE + chunk('{"refusal":"I can\'t"}') + chunk('{"refusal":" help."}') + STOP + DONE,
        [Delta("I can't"), Delta(" help."), Completed("stop")],
    ),
    "other choices": (
        HELLO + chunk('{"content":"second"}').replace(b'"index":0', b'"index":1') + STOP + DONE,
        [*SAID, Completed("stop")],
    ),
    "error in the middle": (
        HELLO
        + b'data: {"error":{"message":"The server had an error","type":"server_error","code":null}}\n\n'
        + STOP
        + DONE,
        [*SAID, Failed("upstream_error", "The server had an error", True)],
    ),
    "final error in the middle": (
        HELLO
        + b'data: {"error":{"message":"You are out","type":"insufficient_quota","code":"insufficient_quota"}}\n\n',
        [*SAID, Failed("upstream_error", "You are out", False)],
    ),
    "credentials refused in the middle": (
        b'data: {"error":{"message":"Bad key sk-1234567890","type":"x","code":"invalid_api_key"}}\n\n',
        [Failed("upstream_error", "The service behind the gateway refused the gateway's request.", False)],
    ),
    "named error": (
        HELLO + b'event: error\ndata: {"message":"Overloaded","type":"overloaded_error"}\n\n' + DONE,
        [*SAID, Failed("upstream_error", "Overloaded", True)],
    ),
    "named error that is no JSON": (
        HELLO + b"event: error\ndata: boom\n\n" + DONE,
        [*SAID, Failed("upstream_error", "The service behind the gateway answered with an error.", True)],
    ),
    "error in a chunk with empty choices": (
        HELLO + ROUTER_ERROR + DONE,
        [*SAID, Failed("upstream_error", "Slow down, please", True)],
    ),
    "error in a chunk with a choice": (
        HELLO + ROUTER_ERROR_WITH_CHOICE + DONE,
        [*SAID, Delta("!"), Failed("upstream_error", "Provider disconnected", True)],
    ),
    "a reason that is an error": (
        HELLO + chunk("{}", '"finish_reason":"error"') + DONE,
        [*SAID, Failed("upstream_error", "The service behind the gateway answered with an error.", True)],
    ),
    "error after usage": (
        HELLO + STOP.replace(b'"usage":null', b'"usage":{"prompt_tokens":9,"completion_tokens":1}') + ROUTER_ERROR,
        [*SAID, Usage(9, 1), Failed("upstream_error", "Slow down, please", True)],
    ),
    "nothing": (b"", [TRUNCATED]),
    "truncated between events": (HELLO, [*SAID, TRUNCATED]),
    "truncated in a JSON": (HELLO[:-40], [Delta("Grüße"), TRUNCATED]),
    "truncated in a character": (HELLO[: HELLO.index("👋".encode()) + 2], [Delta("Grüße"), TRUNCATED]),
    "truncated after usage": (HELLO + STOP + USAGE, [*SAID, Usage(9, 2), TRUNCATED]),
    "truncated after finish_reason": (HELLO + STOP, [*SAID, TRUNCATED]),
    "truncated in the terminal": (HELLO + STOP + DONE[:-3], [*SAID, TRUNCATED]),
    "terminal without its line ends": (HELLO + STOP + DONE[:-2], [*SAID, Completed("stop")]),
    "terminal with one line end": (HELLO + STOP + DONE[:-1], [*SAID, Completed("stop")]),
    "bytes after the terminal": (
        HELLO + STOP + DONE + chunk('{"content":"late"}') + USAGE + ROUTER_ERROR + DONE + b"\xff\n\n",
        [*SAID, Completed("stop")],
    ),
    "keep-alive": (
        b": OPENROUTER PROCESSING\n\n" + HELLO.replace(b"\n\n", b"\n\n: ping\n\n") + STOP + b":\n\n" + DONE,
        [*SAID, Completed("stop")],
    ),
    "named chunks": ((HELLO + DONE).replace(b"data", b"event: chunk\ndata"), [*SAID, Completed("stop")]),
    "padded terminal": (HELLO + b"data:  [DONE] \n\n", [*SAID, Completed("stop")]),
    "malformed events": (
        ROLE
        + b'data: {"choices":[{"index":0,"delta":{"content":"cut\n\n'
        + chunk('{"content":"Grüße"}')
        + b"data: \xff\xfe\n\ndata: null\n\ndata: 1\n\ndata: []\n\ndata:\n\n"
        + chunk('{"content":" 👋🏽"}')
        + DONE,
        [*SAID, Completed("stop")],
    ),
    "an event past the limit": (
        HELLO + b'data: {"x":"' + b"x" * 1000 + b'"}\n\n' + STOP + DONE,
        [
            *SAID,
            Failed("upstream_invalid", "The service behind the gateway sent an event larger than the limit.", True),
        ],
    ),
}


def decode(*chunks: bytes, limit: int = 700) -> list[Event]:
    decoder = openai_chat(limit)
    events = [event for data in chunks for event in decoder.feed(data)]
    events += decoder.end()
    assert decoder.answer.ended
    assert decoder.end() == []
    assert decoder.feed(HELLO + DONE) == []
    return events


@pytest.mark.parametrize(("data", "events"), RECORDINGS.values(), ids=RECORDINGS.keys())
def test_every_split_of_a_recording_gives_the_same_events(data: bytes, events: list[Event]) -> None:
    assert decode(data) == events
    assert decode(*(bytes([byte]) for byte in data)) == events
    for cut in range(len(data)):
        assert decode(data[:cut], data[cut:]) == events


def test_a_cut_anywhere_before_the_terminal_is_a_failure_and_all_text_before_it_is_kept() -> None:
    data = HELLO + STOP + USAGE + DONE
    for cut in range(len(data) - len(b"\n\n")):
        *before, last = decode(data[:cut])
        assert last == TRUNCATED
        assert before == [*SAID, Usage(9, 2)][: len(before)]


def test_model_usage_and_malformed_events_can_be_read_from_the_decoder() -> None:
    decoder = openai_chat()
    assert (decoder.answer.model, decoder.answer.usage, decoder.answer.malformed) == (None, None, 0)
    decoder.feed(b'data: {"model":null}\n\ndata: {"model":7}\n\ndata: {\n\n' + STOP + USAGE)
    decoder.feed(STOP.replace(b"gpt-x", b"gpt-y"))
    assert (decoder.answer.model, decoder.answer.usage, decoder.answer.malformed) == ("gpt-x", Usage(9, 2), 1)


WRONG: list[Any] = [None, True, 0, -1, 1.5, "x", "", [], [1], [None], {}, {"x": 1}, [[]], [{}], {"index": {}}]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_values_of_a_wrong_type_are_passed_over(wrong: Any) -> None:
    whole = orjson.loads(USAGE[6:]) | {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    broken: list[Any] = [wrong]
    broken += [{**whole, name: wrong} for name in whole]
    broken += [{"choices": [{**whole["choices"][0], name: wrong}]} for name in ("index", "delta", "finish_reason")]
    fields = ("content", "refusal", "reasoning", "reasoning_content", "tool_calls", "function_call", "role")
    broken += [{"choices": [{"delta": {name: wrong}}]} for name in fields]
    broken += [{"choices": [], "usage": {"prompt_tokens": wrong, "completion_tokens": 1}}]
    broken += [{"error": {"message": wrong, "type": wrong, "code": wrong}}, {"error": [wrong]}]
    for value in broken:
        events = decode(b"data: " + orjson.dumps(value) + b"\n\n", DONE)
        assert [type(event) in TERMINALS for event in events] == [False] * (len(events) - 1) + [True]


def test_json_that_is_nested_past_what_can_be_written_is_counted_not_raised() -> None:
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    decoder = openai_chat(10_000)
    assert decoder.feed(b'data: {"choices":[{"delta":{"tool_calls":[' + deep + b"]}}]}\n\n") == []
    assert decoder.answer.malformed == 1


FIELDS = ["choices", "index", "delta", "content", "reasoning", "tool_calls", "finish_reason", "model"]
FIELDS += ["usage", "prompt_tokens", "completion_tokens", "error", "message", "type", "code"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


def is_one_ending(events: list[Event]) -> bool:
    for event in events:
        encode(event)
    return [isinstance(event, TERMINALS) for event in events] == [False] * (len(events) - 1) + [True]


@given(st.lists(json_values, max_size=4), st.lists(st.integers(0, 10_000), max_size=4))
def test_arbitrary_json_gives_one_terminal_and_never_raises(values: list[Any], cuts: list[int]) -> None:
    data = b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)
    events = decode(*pieces(data, cuts))
    assert is_one_ending(events)
    assert events == decode(data)


@given(st.binary(max_size=400), st.lists(st.integers(0, 10_000), max_size=4))
def test_arbitrary_bytes_give_one_terminal_and_never_raise(data: bytes, cuts: list[int]) -> None:
    for stream in (data, b"data: " + data, HELLO + data + DONE, b"event: error\ndata: " + data):
        events = decode(*pieces(stream, cuts))
        assert is_one_ending(events)
        assert events == decode(stream)


@given(st.lists(st.text(max_size=20), max_size=10), st.lists(st.integers(0, 10_000), max_size=6))
def test_the_text_of_all_deltas_is_the_text_of_the_source(texts: list[str], cuts: list[int]) -> None:
    data = b"".join(chunk(orjson.dumps({"content": text}).decode()) for text in texts) + STOP + DONE
    *deltas, last = decode(*pieces(data, cuts))
    assert last == Completed("stop")
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == "".join(texts)


def body(input: dict[str, Any], model: str | None = "m") -> dict[str, Any]:
    return orjson.loads(request_body(input, model))  # type: ignore[no-any-return]


def test_a_message_becomes_a_request_for_a_stream_with_usage() -> None:
    assert body({"message": "Hello", "model": None, "session_id": None}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_messages_and_parameters_are_passed_on() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
    ]
    parameters = {
        "session_id": "s1",
        "temperature": 0.5,
        "max_tokens": 10,
        "stop": ["a"],
        "tools": [{"type": "function"}],
    }
    wanted = body({"messages": messages, "model": "other", "stream": False, "stream_options": {}, **parameters})
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    assert wanted == {"model": "other", "messages": messages, **parameters, **stream}
    assert "model" not in body({"message": "x"}, None)


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({}, "message"),
        ({"message": None}, "message"),
        ({"message": "x", "messages": []}, "messages"),
        ({"message": 1}, "input.message"),
        ({"message": ""}, "input.message"),
        ({"messages": []}, "input.messages"),
        ({"messages": {}}, "input.messages"),
        ({"messages": [{"role": "user"}, "x"]}, "input.messages[1]"),
        ({"messages": [{"content": "x"}]}, "input.messages[0]"),
        ({"message": "x", "model": 1}, "input.model"),
        ({"message": "x", "model": ""}, "input.model"),
        ({"message": "x", "temprature": 1}, "input.temprature"),
        ({"message": "x", "n": 2}, "input.n"),
        ({"message": "x", "temperature": True}, "input.temperature"),
        ({"message": "x", "top_p": float("nan")}, "input.top_p"),
        ({"message": "x", "max_tokens": 0}, "input.max_tokens"),
        ({"message": "x", "max_tokens": 1.5}, "input.max_tokens"),
        ({"message": "x", "seed": 2**70}, "input.seed"),
        ({"message": "x", "stop": [1]}, "input.stop"),
        ({"message": "x", "user": "x" * 2000}, "input.user"),
        ({"message": "x", "tools": [1]}, "input.tools"),
        ({"message": "x", "metadata": {1: 2}}, "input"),
    ],
)
def test_a_bad_input_is_refused_by_the_name_of_its_field(input: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        request_body(input, "m")
    assert field in caught.value.message


@given(st.dictionaries(st.sampled_from(["message", "messages", "model", *PARAMETERS]), json_values, max_size=5))
def test_an_arbitrary_input_becomes_a_request_or_a_bad_request(input: dict[str, Any]) -> None:
    try:
        body = request_body(input, "m")
    except BadRequest:
        return
    assert orjson.loads(body)["stream"] is True


@pytest.mark.parametrize(
    ("status", "answer", "message", "retryable"),
    [
        (429, b'{"error":{"message":"Rate limit reached","type":"requests"}}', "Rate limit reached", True),
        (429, b'{"error":{"message":"No money","code":"insufficient_quota"}}', "No money", False),
        (400, b'{"error":{"message":"Too long","code":"context_length_exceeded"}}', "Too long", False),
        (404, b'{"error":"model \\"x\\" not found"}', 'model "x" not found', False),
        (503, b'[{"error":{"code":503,"message":"Overloaded"}}]', "Overloaded", True),
        (422, b'{"detail":"no such voice"}', "no such voice", False),
        (422, b'{"detail":[{"loc":["body"],"input":"secret"}]}', "answered with status 422.", False),
        (500, b"<html><body><h1>Internal</h1></body></html>", "answered with status 500.", True),
        (500, b'"<html>"', "answered with status 500.", True),
        (502, b"\xff\xfe", "answered with status 502.", True),
        (504, b"", "answered with status 504.", True),
        (408, b"null", "answered with status 408.", True),
        (302, b"", "answered with status 302.", False),
        (401, b'{"error":{"message":"Incorrect API key: sk-abcdefghijkl"}}', "refused the gateway's request.", False),
        (403, b'{"error":{"message":"Project p_1 has no access"}}', "refused the gateway's request.", False),
        (400, b'{"error":{"message":"a\\u0000b\\r\\n\\u202ec\\u2028 d"}}', "a b c d", False),
        (400, b'{"error":{"message":"used sk-proj-abcdefgh12 here"}}', "used … here", False),
    ],
)
def test_an_error_answer_is_told_in_fit_words(status: int, answer: bytes, message: str, retryable: bool) -> None:
    error = error_from_response(status, answer)
    assert error.message.endswith(message)
    assert (error.code, error.status, error.retryable) == ("upstream_error", 502, retryable)


@given(st.integers(300, 599), st.binary(max_size=200) | json_values.map(orjson.dumps))
def test_an_arbitrary_error_answer_has_one_short_line(status: int, answer: bytes) -> None:
    message = error_from_response(status, answer).message
    assert message.isprintable()
    assert 0 < len(message) <= MESSAGE_LENGTH


def test_a_long_message_is_cut() -> None:
    assert clean("word " * 1000) == ("word " * 1000)[: MESSAGE_LENGTH - 1] + "…"


def test_the_table_names_the_format() -> None:
    form = FORMATS["openai-chat"]
    assert orjson.loads(form.request_body({"message": "x"}, None))["messages"]
    assert form.error_from_response(500, b"").retryable
    assert form.decoder().end() == [TRUNCATED]
    assert (b"content-type", b"application/json") in form.headers
