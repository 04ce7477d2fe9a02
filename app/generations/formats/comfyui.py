"""ComfyUI's socket: JSON frames of a prompt's execution, and binary frames of previews.

One socket tells of all of a client's prompts, so frames of other prompts are passed over. The end is
``execution_success``, from older servers ``executing`` with no node; an error and an interruption come before it.

Source: ComfyUI's documentation (*Messages*), its ``server.py``, ``protocol.py`` and ``comfy_execution/progress.py``.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from pybase64 import b64encode_as_string

from app.generations.formats.answer import Answer, count, number
from app.generations.formats.decoders import JsonFrames

__all__ = ["ComfyUIReader", "comfyui"]

MAX_PREVIEW = 4 * 1024 * 1024
"""Bytes of a preview that are passed on."""
_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_MIMES = {1: "image/jpeg", 2: "image/png"}
_RESULTS = ("images", "gifs", "audio", "video", "videos", "files")


def comfyui(prompt_id: str | None = None, nodes: int | None = None, view: str = "/view") -> JsonFrames:
    """Return a decoder of one prompt's frames.

    ``prompt_id`` None takes the first prompt that is named. ``nodes`` is how many the prompt has: without it no
    percentage is told, for frames leave out nodes that wait. ``view`` is what an artifact's address begins with.
    """
    return JsonFrames(ComfyUIReader(prompt_id, nodes, view))


class ComfyUIReader:
    """What a frame becomes.

    - ``status``: queued, with the number of prompts that are left, until this one has begun;
    - ``execution_start``, ``execution_cached``, ``executing``: progress with the node's name as the stage;
    - ``progress``: ``step`` of ``total`` in a node; ``progress_state``: the percentage over all nodes;
    - previews (binary frames of type 1 and 4): a preview of result 0;
    - ``executed``: an artifact for each file of its output, under ``/view?filename=…``;
    - ``execution_success``: completed; ``execution_error``: failed; ``execution_interrupted``: cancelled.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self, prompt_id: str | None, nodes: int | None, view: str) -> None:
        self._prompt = prompt_id
        self._nodes = nodes
        self._view = view
        self._begun = False
        self._results = 0
        self._on: dict[str, Callable[[dict[str, Any], Answer], None]] = {
            "execution_start": lambda _, answer: answer.progress("started"),
            "execution_cached": lambda _, answer: None,
            "executing": _tell_node,
            "progress": _tell_steps,
            "progress_state": self._tell_state,
            "progress_text": lambda _, answer: None,
            "executed": self._hand_over,
            "execution_success": lambda _, answer: answer.complete(),
            "execution_error": _fail,
            "execution_interrupted": lambda _, answer: answer.cancel(),
        }

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a text frame."""
        kind, data = value.get("type"), value.get("data")
        if kind == "status":
            self._tell_queue(data, answer)
            return
        act = self._on.get(kind) if isinstance(kind, str) else None
        if act is None:
            answer.unknown += 1
        elif not isinstance(data, dict):
            answer.malformed += 1
        elif self._is_ours(data):
            self._begun = True
            act(data, answer)

    def done(self, answer: Answer) -> None:
        """The family has no ``[DONE]``."""
        raise AssertionError("frames have no [DONE]")

    def binary(self, data: bytes, answer: Answer) -> None:
        """Take a binary frame: type, then what the type says, all numbers big-endian."""
        kind, rest = int.from_bytes(data[:4]), data[8:]
        if kind == _PREVIEW and len(data) > 8:
            mime = _MIMES.get(int.from_bytes(data[4:8]))
        elif kind == _PREVIEW_WITH_METADATA and len(data) > 8:
            size = int.from_bytes(data[4:8])
            mime, rest = self._read_metadata(rest[:size], answer), rest[size:]
            if mime is None:
                return
        else:
            answer.unknown += 1
            return
        if mime is None or not rest or len(rest) > MAX_PREVIEW:
            answer.malformed += 1
        elif self._begun:
            answer.preview(0, mime, data=b64encode_as_string(rest))

    def closed(self, code: int | None, answer: Answer) -> None:
        """The socket serves all prompts: its close is no end of one."""

    def _is_ours(self, data: dict[str, Any]) -> bool:
        prompt = data.get("prompt_id")
        if self._prompt is None and isinstance(prompt, str):
            self._prompt = prompt
        return prompt is None or prompt == self._prompt  # Frames of old name none.

    def _tell_queue(self, data: Any, answer: Answer) -> None:
        match data:
            case {"status": {"exec_info": {"queue_remaining": int(left)}}} if not self._begun and left > 0:
                answer.queued(left - 1)

    def _read_metadata(self, text: bytes, answer: Answer) -> str | None:
        """Return the preview's type; None where it can't be read, or belongs to another prompt."""
        try:
            metadata = answer.load(text)
        except ValueError:
            metadata = None
        mime = answer.word(metadata.get("image_type")) if isinstance(metadata, dict) else None
        if mime is None:
            answer.malformed += 1
            return None
        return mime if self._is_ours(metadata) else None

    def _tell_state(self, data: dict[str, Any], answer: Answer) -> None:
        nodes = data.get("nodes")
        states = [state for state in nodes.values() if isinstance(state, dict)] if isinstance(nodes, dict) else []
        running = next((state for state in states if state.get("state") == "running"), {})
        stage = running.get("display_node_id") or running.get("node_id")
        percent = 100 * sum(map(_share, states)) / max(self._nodes, len(states)) if self._nodes else None
        answer.progress(stage, _whole(running.get("value")), _whole(running.get("max")), percent)

    def _hand_over(self, data: dict[str, Any], answer: Answer) -> None:
        output = data.get("output")
        if not isinstance(output, dict):
            return
        for name in _RESULTS:
            files = output.get(name)
            for file in files if isinstance(files, list) else []:
                self._hand_over_file(file, answer)

    def _hand_over_file(self, file: Any, answer: Answer) -> None:
        name = file.get("filename") if isinstance(file, dict) else None
        if not isinstance(name, str) or not name.isprintable():
            answer.malformed += 1
            return
        if file.get("type") == "temp":
            return  # A preview node's; the server forgets it.
        fields = ((field, file.get(field)) for field in ("filename", "subfolder", "type"))
        query = urlencode([field for field in fields if isinstance(field[1], str)], errors="replace")
        mime = mimetypes.guess_type(name)[0] or "application/octet-stream"
        answer.artifact(self._results, mime, f"{self._view}?{query}")
        self._results += 1


def _tell_node(data: dict[str, Any], answer: Answer) -> None:
    node = data.get("display_node") or data.get("node")
    if "node" in data and data["node"] is None:
        answer.complete()
    else:
        answer.progress(node if isinstance(node, str) else None)


def _tell_steps(data: dict[str, Any], answer: Answer) -> None:
    answer.progress(data.get("node"), _whole(data.get("value")), _whole(data.get("max")))


def _share(state: dict[str, Any]) -> float:
    value, most = number(state.get("value")), number(state.get("max"))
    if state.get("state") == "finished":
        return 1.0
    return max(0.0, min(value / most, 1.0)) if value is not None and most else 0.0


def _whole(value: Any) -> int | None:
    return count(int(value)) if (value := number(value)) is not None else None


def _fail(data: dict[str, Any], answer: Answer) -> None:
    answer.refuse({"message": data.get("exception_message")})
