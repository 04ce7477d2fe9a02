"""Answers of upstreams as each family sends them, event by event, written by hand; and what they mean.

``events`` are whole pieces of the wire, the last one the terminal; ``means`` is what a decoder makes of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.generations.events import Artifact, Completed, Delta, Event, Part, Preview, Progress, Usage
from app.generations.formats import STREAM_DECODERS
from app.generations.formats.decoders import StreamDecoder
from app.generations.formats.json_lines import json_lines

__all__ = ["RECORDINGS", "Recording", "data", "line", "named"]

EMOJI = "👋🏽"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass(frozen=True)
class Recording:
    decoder: Callable[[], StreamDecoder]
    events: list[bytes]
    means: list[Event]
    frame: Callable[[Any], bytes]
    """Writes a JSON value as one event."""
    halves: list[Any]
    """Two objects whose texts are the two halves of one character, then ``x``, before the terminal."""
    part: Part = "text"


def data(value: Any) -> bytes:
    """One server-sent event without a name."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def named(value: dict[str, Any]) -> bytes:
    """One server-sent event whose name is its object's type."""
    return f"event: {value.get('type', 'message')}\n".encode() + data(value)


def line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def _named(value: Any) -> bytes:
    return named(value) if isinstance(value, dict) else data(value)


def _tool(value: dict[str, Any]) -> Delta:
    return Delta(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", "tool")


def _call(index: int, arguments: str, id: str | None = None, name: str = "") -> Delta:
    if id is None:
        return _tool({"index": index, "function": {"arguments": arguments}})
    return _tool({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}})


def _chat(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"id": "c1", "model": "gpt-x", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _response(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{type_}", "sequence_number": 1, **fields}


def _text(delta: str) -> dict[str, Any]:
    return _response("output_text.delta", item_id="msg_1", output_index=1, content_index=0, delta=delta, logprobs=[])


_RESPONSE = {"id": "resp_1", "object": "response", "status": "in_progress", "model": "gpt-y-2026", "output": []}
_FUNCTION = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": ""}
_USAGE = {"input_tokens": 21, "output_tokens": 8, "total_tokens": 29, "output_tokens_details": {"reasoning_tokens": 3}}

OPENAI_RESPONSES = Recording(
    STREAM_DECODERS["openai-responses"],
    [
        _named(_response("created", response=_RESPONSE)),
        _named(_response("in_progress", response=_RESPONSE)),
        _named(_response("output_item.added", output_index=0, item={"type": "reasoning", "id": "rs_1", "summary": []})),
        _named(_response("reasoning_summary_part.added", output_index=0, summary_index=0, part={"type": "x"})),
        _named(_response("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Think")),
        _named(_response("reasoning_summary_text.done", output_index=0, summary_index=0, text="Think")),
        _named(_response("reasoning_summary_part.added", output_index=0, summary_index=1, part={"type": "x"})),
        _named(_response("reasoning_summary_text.done", output_index=0, summary_index=1, text="again")),
        _named(_response("content_part.added", output_index=1, content_index=0, part={"type": "output_text"})),
        _named(_text("Grüße ")),
        _named(_text(EMOJI)),
        _named(_response("output_text.done", output_index=1, content_index=0, text="Grüße " + EMOJI)),
        _named(_response("output_item.added", output_index=2, item=_FUNCTION)),
        _named(_response("function_call_arguments.delta", output_index=2, item_id="fc_1", delta='{"city":')),
        _named(_response("function_call_arguments.delta", output_index=2, item_id="fc_1", delta='"Ulm"}')),
        _named(_response("function_call_arguments.done", output_index=2, arguments='{"city":"Ulm"}')),
        _named(_response("web_search_call.searching", output_index=3, item_id="ws_1")),
        _named(_response("completed", response={**_RESPONSE, "status": "completed", "usage": _USAGE})),
    ],
    [
        Delta("Think", "reasoning"),
        Delta("\n\n", "reasoning"),
        Delta("again", "reasoning"),
        Delta("Grüße "),
        Delta(EMOJI),
        _call(2, "", "call_1", "weather"),
        _call(2, '{"city":'),
        _call(2, '"Ulm"}'),
        Progress(stage="web search call searching"),
        Usage(21, 8),
        Completed("tool_calls"),
    ],
    _named,
    [_text("\ud83d"), _text("\ude00"), _text("x")],
)


def _block(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


ANTHROPIC = Recording(
    STREAM_DECODERS["anthropic"],
    [
        named(
            {
                "type": "message_start",
                "message": {
                    "id": "msg_1",
                    "role": "assistant",
                    "model": "claude-x",
                    "content": [],
                    "usage": {"input_tokens": 20, "cache_read_input_tokens": 5, "output_tokens": 1},
                },
            }
        ),
        named({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        named({"type": "ping"}),
        named(_block(0, type="thinking_delta", thinking="Hm.")),
        named(_block(0, type="signature_delta", signature="c2ln")),
        named({"type": "content_block_stop", "index": 0}),
        named({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        named(_block(1, type="text_delta", text="Grüße ")),
        named(_block(1, type="text_delta", text=EMOJI)),
        named({"type": "content_block_stop", "index": 1}),
        named(
            {
                "type": "content_block_start",
                "index": 2,
                "content_block": {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            }
        ),
        named(_block(2, type="input_json_delta", partial_json="")),
        named(_block(2, type="input_json_delta", partial_json='{"city":"Ulm"}')),
        named({"type": "content_block_stop", "index": 2}),
        named({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 42}}),
        named({"type": "message_stop"}),
    ],
    [
        Delta("Hm.", "reasoning"),
        Delta("Grüße "),
        Delta(EMOJI),
        _call(2, "", "toolu_1", "weather"),
        _call(2, '{"city":"Ulm"}'),
        Usage(25, 42),
        Completed("tool_calls"),
    ],
    _named,
    [_block(1, type="text_delta", text=text) for text in ("\ud83d", "\ude00", "x")],
)


def _ollama(content: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    return {"model": "llama-x", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}


_OLLAMA_END = {
    "model": "llama-x",
    "message": {"role": "assistant", "content": ""},
    "done": True,
    "done_reason": "stop",
    "total_duration": 5_000_000,
    "prompt_eval_count": 26,
    "eval_count": 7,
}
OLLAMA = Recording(
    STREAM_DECODERS["ollama"],
    [
        line(_ollama("", thinking="Hm.")),
        line(_ollama("Grüße ")),
        line(_ollama(EMOJI)),
        line(_ollama("", tool_calls=[{"function": {"name": "weather", "arguments": {"city": "Ulm"}}}])),
        line(_OLLAMA_END),
    ],
    [
        Delta("Hm.", "reasoning"),
        Delta("Grüße "),
        Delta(EMOJI),
        _call(0, '{"city":"Ulm"}', "", "weather"),
        Usage(26, 7),
        Completed("tool_calls"),
    ],
    line,
    [_ollama("\ud83d"), _ollama("\ude00"), _ollama("x")],
)


def _generate(response: str) -> dict[str, Any]:
    return {"model": "llama-x", "response": response, "done": False}


OLLAMA_GENERATE = Recording(
    STREAM_DECODERS["ollama-generate"],
    [
        line(_generate("Grüße ")),
        line(_generate(EMOJI)),
        line({"model": "llama-x", "response": "", "done": True, "done_reason": "length", "eval_count": 7}),
    ],
    [Delta("Grüße "), Delta(EMOJI), Usage(0, 7), Completed("length")],
    line,
    [_generate("\ud83d"), _generate("\ude00"), _generate("x")],
)


def _part(type_: str, **fields: Any) -> dict[str, Any]:
    return {"type": type_, **fields}


VERCEL = Recording(
    STREAM_DECODERS["vercel-ai"],
    [
        data(_part("start", messageId="m1", messageMetadata={"model": "gpt-x"})),
        data(_part("start-step")),
        data(_part("reasoning-start", id="r1")),
        data(_part("reasoning-delta", id="r1", delta="Hm.")),
        data(_part("reasoning-end", id="r1")),
        data(_part("text-start", id="t1")),
        data(_part("text-delta", id="t1", delta="Grüße ")),
        data(_part("text-delta", id="t1", delta=EMOJI)),
        data(_part("text-end", id="t1")),
        data(_part("tool-input-start", toolCallId="call_1", toolName="weather")),
        data(_part("tool-input-delta", toolCallId="call_1", inputTextDelta='{"city":"Ulm"}')),
        data(_part("tool-input-available", toolCallId="call_1", toolName="weather", input={"city": "Ulm"})),
        data(_part("tool-output-available", toolCallId="call_1", output={"sky": "blue"})),
        data(_part("data-progress", id="p", data={"stage": "search", "percent": 50})),
        data(_part("file", url="https://files.example/a.png", mediaType="image/png")),
        data(_part("finish-step")),
        data(_part("finish", finishReason="stop", messageMetadata={"usage": {"inputTokens": 9, "outputTokens": 4}})),
        b"data: [DONE]\n\n",
    ],
    [
        Delta("Hm.", "reasoning"),
        Delta("Grüße "),
        Delta(EMOJI),
        _call(0, "", "call_1", "weather"),
        _call(0, '{"city":"Ulm"}'),
        _tool({"index": 0, "output": {"sky": "blue"}}),
        Progress(stage="search", percent=50.0),
        Artifact(0, "image/png", "https://files.example/a.png"),
        Usage(9, 4),
        Completed("stop"),
    ],
    data,
    [_part("text-delta", id="t1", delta=text) for text in ("\ud83d", "\ude00", "x")],
)

OPENAI_CHAT = Recording(
    STREAM_DECODERS["openai-chat"],
    [
        data(_chat({"role": "assistant", "content": ""})),
        data(_chat({"reasoning_content": "Hm."})),
        data(_chat({"content": "Grüße "})),
        data(_chat({"content": EMOJI})),
        data(_chat({}, "stop")),
        data({"model": "gpt-x", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}),
        b"data: [DONE]\n\n",
    ],
    [Delta("Hm.", "reasoning"), Delta("Grüße "), Delta(EMOJI), Usage(9, 2), Completed("stop")],
    data,
    [_chat({"content": "\ud83d"}), _chat({"content": "\ude00"}), _chat({"content": "x"})],
)

_IMAGE = {"created_at": 1730000000, "size": "1024x1024", "output_format": "png", "b64_json": PIXEL}
OPENAI_IMAGES = Recording(
    STREAM_DECODERS["openai-images"],
    [
        named({"type": "image_generation.partial_image", "partial_image_index": 0, **_IMAGE}),
        named({"type": "image_generation.partial_image", "partial_image_index": 1, **_IMAGE}),
        named({"type": "image_generation.completed", "usage": {"input_tokens": 50, "output_tokens": 1000}, **_IMAGE}),
    ],
    [
        Progress(stage="rendering", step=1),
        Preview(0, "image/png", data=PIXEL),
        Progress(stage="rendering", step=2),
        Preview(0, "image/png", data=PIXEL),
        Artifact(0, "image/png", data=PIXEL),
        Usage(50, 1000),
        Completed("stop"),
    ],
    _named,
    [],
)

REPLICATE = Recording(
    STREAM_DECODERS["replicate"],
    [
        b"event: output\nid: 1:0\ndata: Gr\xc3\xbc\xc3\x9fe\n\n",
        b"event: logs\nid: 2:0\ndata:  45%|####      | 9/20\n\n",
        b"event: output\nid: 3:0\ndata:\ndata: " + EMOJI.encode() + b"\n\n",
        b"event: output\nid: 4:0\ndata: https://replicate.delivery/xezq/out-0.webp\n\n",
        b"event: done\nid: 5:0\ndata: {}\n\n",
    ],
    [
        Delta("Grüße"),
        Progress(stage="processing", percent=45.0),
        Delta("\n" + EMOJI),
        Artifact(0, "image/webp", "https://replicate.delivery/xezq/out-0.webp"),
        Completed("stop"),
    ],
    lambda value: b"event: done\n" + data(value),
    [],
)

JSON_LINES = Recording(
    lambda: json_lines({"text": "choices.0.text", "done": "type=end", "reason": "why"}),
    [
        line({"type": "token", "model": "own-1", "choices": [{"text": "Grüße "}]}),
        line({"type": "token", "progress": {"stage": "writing", "percent": 40}, "choices": [{"text": EMOJI}]}),
        line({"type": "late", "progress": {"stage": "writing", "percent": 10}}),
        line({"type": "end", "why": "length", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
    ],
    [
        Delta("Grüße "),
        Delta(EMOJI),
        Progress(stage="writing", percent=40.0),
        Usage(3, 2),
        Completed("length"),
    ],
    line,
    [{"choices": [{"text": text}]} for text in ("\ud83d", "\ude00", "x")],
)

RECORDINGS: dict[str, Recording] = {
    "openai-chat": OPENAI_CHAT,
    "openai-responses": OPENAI_RESPONSES,
    "anthropic": ANTHROPIC,
    "ollama": OLLAMA,
    "ollama-generate": OLLAMA_GENERATE,
    "vercel-ai": VERCEL,
    "openai-images": OPENAI_IMAGES,
    "replicate": REPLICATE,
    "json-lines": JSON_LINES,
}
