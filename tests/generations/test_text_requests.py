"""What each family is asked, from one input that clients write for all of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.config.generations import _FIELDS, _PATHS, GenerationConfig
from app.errors import BadRequest
from app.generations.formats import FORMATS, format_of
from app.generations.formats.json_lines import FIELDS
from tests.generations.test_decoders import json_values

TEXT_FAMILIES = ["openai-chat", "openai-responses", "anthropic", "ollama", "ollama-generate", "vercel-ai"]
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "developer", "content": [{"type": "text", "text": "Be short."}]},
    {"role": "user", "content": "Grüße"},
]


def ask(name: str, input: dict[str, Any], model: str | None = "m") -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(format_of(name, {}).request_body(input, model))
    return body


@pytest.mark.parametrize(
    ("name", "input", "body"),
    [
        ("openai-responses", {"message": "x"}, {"input": [{"role": "user", "content": "x"}]}),
        (
            "openai-responses",
            {"messages": MESSAGES, "max_tokens": 5, "reasoning_effort": "low", "verbosity": "low", "stream": False},
            {
                "input": MESSAGES,
                "max_output_tokens": 5,
                "reasoning": {"effort": "low"},
                "text": {"verbosity": "low"},
            },
        ),
        (
            "openai-responses",
            {"message": "x", "max_output_tokens": 7, "max_tokens": 5, "reasoning": {"effort": "high"}, "user": None},
            {"input": [{"role": "user", "content": "x"}], "max_output_tokens": 7, "reasoning": {"effort": "high"}},
        ),
        ("anthropic", {"message": "x"}, {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4096}),
        (
            "anthropic",
            {"messages": MESSAGES[::2], "system": "First.", "max_tokens": 9, "stop": "END", "user": "u1"},
            {
                "messages": MESSAGES[2:],
                "system": "First.\n\nBe kind.",
                "max_tokens": 9,
                "stop_sequences": ["END"],
                "metadata": {"user_id": "u1"},
            },
        ),
        (
            "anthropic",
            {"messages": MESSAGES, "max_completion_tokens": 3},
            {
                "messages": MESSAGES[2:],
                "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be short."}],
                "max_tokens": 3,
            },
        ),
        (
            "ollama",
            {"messages": MESSAGES, "temperature": 0.5, "max_tokens": 9, "stop": "END", "options": {"num_gpu": 1}},
            {"messages": MESSAGES, "options": {"temperature": 0.5, "num_predict": 9, "stop": ["END"], "num_gpu": 1}},
        ),
        ("ollama", {"message": "x", "think": "low"}, {"messages": [{"role": "user", "content": "x"}], "think": "low"}),
        ("ollama-generate", {"messages": MESSAGES}, {"prompt": "Grüße", "system": "Be kind.\n\nBe short."}),
        (
            "vercel-ai",
            {"messages": [{"role": "user", "parts": [{"type": "text", "text": "x"}]}], "id": "c", "webSearch": True},
            {
                "id": "c",
                "trigger": "submit-message",
                "webSearch": True,
                "messages": [{"id": "message-0", "role": "user", "parts": [{"type": "text", "text": "x"}]}],
            },
        ),
        ("openai-images", {"message": "a lake", "size": "1x1"}, {"prompt": "a lake", "size": "1x1"}),
        ("json-lines", {"anything": [1], "model": None}, {"anything": [1]}),
        ("json-lines", {"x": 1}, {"x": 1}),
    ],
)
def test_a_request_is_what_its_family_wants(name: str, input: dict[str, Any], body: dict[str, Any]) -> None:
    streamed = {} if name in {"vercel-ai", "json-lines"} else {"stream": True}
    assert ask(name, input) == {"model": "m", **body, **streamed}


@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_each_text_family_is_asked_with_a_mere_message_and_streams(name: str) -> None:
    body = ask(name, {"message": "Hello"}, None)
    assert "Hello" in repr(body)
    assert "model" not in body
    assert ask(name, {"message": "Hello", "model": "mine"})["model"] == "mine"
    assert ask(name, {"message": "Hello", "stream": False, "model": None}) == ask(name, {"message": "Hello"})


@pytest.mark.parametrize(
    ("name", "input", "field"),
    [
        *(
            (name, input, field)
            for name in TEXT_FAMILIES
            for input, field in [
                ({}, "message"),
                ({"message": ""}, "message"),
                ({"messages": [1]}, "input.messages[0]"),
                ({"message": "x", "model": 1}, "input.model"),
            ]
        ),
        *((name, {"message": "x", "temprature": 1}, "input.temprature") for name in TEXT_FAMILIES[:-1]),
        ("openai-responses", {"message": "x", "max_output_tokens": 0}, "input.max_output_tokens"),
        ("anthropic", {"messages": MESSAGES[:1]}, "input.messages"),
        ("anthropic", {"message": "x", "system": 1}, "input.system"),
        ("ollama", {"message": "x", "think": "much"}, "input.think"),
        ("ollama-generate", {"messages": [*MESSAGES, *MESSAGES]}, "input.messages"),
        ("vercel-ai", {"messages": [{"role": "user", "content": [1]}]}, "input.messages[0]"),
        ("vercel-ai", {"message": "x", "id": 5}, "input.id"),
        ("openai-images", {}, "input.prompt"),
        ("openai-images", {"prompt": "x", "n": 4}, "input.n"),
        ("openai-images", {"prompt": "x", "partial_images": 9}, "input.partial_images"),
        ("json-lines", {"model": 5}, "input.model"),
    ],
)
def test_a_bad_input_is_refused_by_the_name_of_its_field(name: str, input: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        ask(name, input)
    assert field in caught.value.message


FIELD_NAMES = [
    "message",
    "messages",
    "model",
    "system",
    "stop",
    "max_tokens",
    "user",
    "options",
    "id",
    "prompt",
    "text",
]
FIELD_NAMES += ["n", "reasoning", "reasoning_effort", "verbosity", "metadata", "think", "partial_images", "tools"]


@pytest.mark.parametrize("name", [*FORMATS, "json-lines"])
@given(input=st.dictionaries(st.sampled_from(FIELD_NAMES), json_values, max_size=6))
def test_an_arbitrary_input_becomes_a_request_or_a_bad_request(name: str, input: dict[str, Any]) -> None:
    try:
        body = format_of(name, {}).request_body(input, "m")
    except BadRequest:
        return
    assert isinstance(orjson.loads(body), dict)


def test_every_format_of_the_configuration_is_there_with_its_path() -> None:
    assert set(_PATHS) == {*FORMATS, "json-lines"}
    assert set(FIELDS) == _FIELDS
    for name in _PATHS:
        kind = GenerationConfig.model_validate({"upstream": "x", "format": name})
        assert kind.path_or_default == _PATHS[name]
        assert format_of(name, {}).decoder().end() != []
        assert (b"content-type", b"application/json") in format_of(name, {}).headers
    assert GenerationConfig(upstream="x", format="ollama", path="/mine").path_or_default == "/mine"


@pytest.mark.parametrize(
    "kind", [{"format": "openai-chat", "fields": {"text": "a"}}, {"format": "json-lines", "fields": {"txt": "a"}}]
)
def test_fields_that_would_have_no_effect_are_refused(kind: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GenerationConfig.model_validate({"upstream": "x", **kind})
