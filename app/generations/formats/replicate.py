"""Replicate: a prediction's stream of server-sent events, and the prediction itself, polled or posted by a webhook.

The stream has named events whose data is plain text: ``output`` (a piece of the text, or the address of a file),
``logs``, ``error`` and ``done``, the terminal, which tells in JSON whether it was cancelled or failed. The document
tells all each time: its status, the output so far, the logs so far.

Source: Replicate's documentation (*Streaming output*, *Webhooks*, *Predictions*).
"""

from __future__ import annotations

import mimetypes
import re
from typing import Any

from app.errors import UpstreamError, UpstreamInvalid
from app.generations.formats.answer import Answer
from app.generations.formats.bodies import Body
from app.generations.formats.decoders import JsonDocuments, StreamDecoder
from app.generations.formats.sse import MAX_EVENT, SseEvent, SseParser

__all__ = ["ReplicateEvents", "ReplicateReader", "replicate_prediction", "replicate_stream"]

_FILE = re.compile(r"https?://[\w.-]*replicate\.(?:delivery|com)/\S+|data:[\w.+-]+/[\w.+-]+;base64,\S+")
_ADDRESS = re.compile(r"https?://\S+|data:[\w.+-]+/[\w.+-]+;base64,\S+")
_PERCENT = re.compile(r"(\d{1,3})%\|")
"""As the progress bar of most Python models writes it into the logs."""
_LOG_TAIL = 4096
_STARTS = {"starting", "queued"}


def replicate_stream(limit: int = MAX_EVENT) -> StreamDecoder:
    """Return a decoder of the events of ``urls.stream``."""
    return Body(SseParser(limit), ReplicateEvents())


class ReplicateEvents:
    """:class:`~app.generations.formats.bodies.PieceReader` of a prediction's stream.

    ``output`` is ``text``, or an artifact where it is the address of a file at Replicate or a ``data:`` URL; a
    percentage in ``logs`` is progress.
    """

    def __init__(self) -> None:
        self._files = 0

    def take(self, event: SseEvent, answer: Answer) -> None:
        """Take an event."""
        name, data = event
        text = data.decode("utf-8", "replace")
        if name == "output":
            if _FILE.fullmatch(text):
                _hand_over(answer, self._files, text)
                self._files += 1
            else:
                answer.text(text)
        elif name == "logs":
            _read_logs(text, answer)
        elif name == "error":
            answer.refuse(_json(data, answer) or {"message": text})
        elif name == "done":
            _finish(_json(data, answer) if data.strip() else {}, answer)
        else:
            answer.unknown += 1

    def last(self, event: SseEvent, answer: Answer) -> None:
        """Take what has no blank line behind it: text may be cut anywhere, the JSON of ``done`` is whole or none."""
        name, data = event
        if name == "done" and _json(data, answer) is not None:
            self.take(event, answer)


def _finish(value: Any, answer: Answer) -> None:
    reason = value.get("reason") if isinstance(value, dict) else None
    if not isinstance(value, dict):
        answer.fail(UpstreamInvalid("The service behind the gateway ended its answer in a form unknown here."))
    elif reason == "canceled":
        answer.cancel()
    elif reason == "error":
        answer.fail(UpstreamError())
    else:
        answer.complete()


def _json(data: bytes, answer: Answer) -> Any:
    try:
        return answer.load(data)
    except ValueError:
        return None


def replicate_prediction() -> JsonDocuments:
    """Return a decoder of one prediction's documents."""
    return JsonDocuments(ReplicateReader())


class ReplicateReader:
    """What is new in a prediction's document.

    ``starting`` and ``processing`` are progress, with the percentage that the logs end with; output that is one address
    or a list of them: artifacts; other output, a text or a list of its pieces: ``text``, what goes beyond what was
    told. ``succeeded``, ``failed``, ``canceled`` are the terminals.
    """

    terminals: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._told = 0
        self._text = ""

    def read(self, name: str, value: dict[str, Any], answer: Answer) -> None:
        """Take a document."""
        status = value.get("status")
        answer.named(value.get("model"))
        goes_on = self._read_output(value.get("output"), answer)
        metrics = value.get("metrics")
        if isinstance(metrics, dict):
            answer.tokens(metrics.get("input_token_count"), metrics.get("output_token_count"))
        match status:
            case "succeeded" | "successful" if not goes_on:
                answer.contradict()
            case "succeeded" | "successful":
                answer.complete()
            case "failed":
                answer.refuse({"message": value.get("error")})
            case "canceled" | "aborted":
                answer.cancel()
            case "processing":
                logs = value.get("logs")
                answer.progress("processing", percent=_percent(logs) if isinstance(logs, str) else None)
            case str() if status in _STARTS:
                answer.progress("starting")
            case _:
                answer.unknown += 1

    def done(self, answer: Answer) -> None:
        """The family's documents have no ``[DONE]``."""
        raise AssertionError("documents have no [DONE]")

    def _read_output(self, output: Any, answer: Answer) -> bool:
        """Tell what is new; return False where it is another text than was told, which can't be taken back."""
        pieces = output if isinstance(output, list) else [output]
        texts = [piece for piece in pieces if isinstance(piece, str)]
        if texts and all(_ADDRESS.fullmatch(text) for text in texts):
            for index, text in enumerate(texts[self._told :], self._told):
                _hand_over(answer, index, text)
            self._told = max(self._told, len(texts))
            return True
        text = "".join(texts)
        if text.startswith(self._text):
            answer.text(text[len(self._text) :])
            self._text = text
        elif not self._text.startswith(text):  # That would be an older document, which is no fault.
            answer.malformed += 1
            return False
        return True


def _hand_over(answer: Answer, index: int, address: str) -> None:
    if address.startswith("data:"):
        head, _, data = address.partition(",")
        answer.artifact(index, head[len("data:") : -len(";base64")], data=data)
    else:
        mime = mimetypes.guess_type(address.partition("?")[0])[0]
        answer.artifact(index, mime or "application/octet-stream", address)


def _read_logs(text: str, answer: Answer) -> None:
    percent = _percent(text)
    if percent is not None:
        answer.progress("processing", percent=percent)


def _percent(logs: str) -> int | None:
    found = _PERCENT.findall(logs[-_LOG_TAIL:])
    return int(found[-1]) if found else None
