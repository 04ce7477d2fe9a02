"""Makes a session of a HAR (HTTP Archive 1.2) with ``_webSocketMessages``. Pure.

Chrome, Edge, Playwright, mitmproxy and others write them, each in its way: Chrome counts the times of messages in
seconds since 1970, Playwright in milliseconds. mitmproxy writes a socket twice, once without its messages. Playwright
can keep messages and bodies in files beside the HAR. Over HTTP/2 a socket is a ``CONNECT`` with status 200; some tools
write ``https`` for ``wss``. A server's events are the body of a call, or ``_eventSourceMessages``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from loadtests.capture.entries import Call, Entries, Socket, socket_url
from loadtests.capture.files import Attachments, CaptureError
from loadtests.session_format import TOKEN, Closed, Frame, Header, Opened, Record, Session

__all__ = ["Chosen", "read_har"]

_NO_SOCKET = (
    "look for the socket in the tool before exporting; browsers other than Chrome and Edge export no messages: "
    "use tidegate-load snippet or record"
)


@dataclass(slots=True)
class Chosen:
    """A session, and what was done with the capture: lines for whoever imports it."""

    session: Session
    notes: list[str] = field(default_factory=list)


def read_har(
    har: Any, attachments: Attachments, *, url_match: str | None = None, rest: bool = True, name: str = "capture"
) -> Chosen:
    """Return the session of a parsed HAR: sockets whose URL holds ``url_match`` (else all), and the page's calls.

    A session has one protocol. Where sockets of several are there, those of the one that is understood best are taken.
    Raises :exc:`CaptureError`.
    """
    reader = Entries(attachments, name)
    sockets, calls = reader.read(har)
    notes = list(reader.notes)
    chosen = _choose(sockets, url_match, notes)
    if not chosen and not (rest and any(call.wanted for call in calls)):
        raise CaptureError(name, _what_is_missing(sockets, url_match), _NO_SOCKET)
    host = _place(chosen[0].url) if chosen else _place(next(call.request.url for call in calls if call.wanted))
    taken = [call for call in calls if call.wanted and _place(call.request.url) == host] if rest else []
    if rest and len(taken) < len(calls):
        notes.append(f"{len(calls) - len(taken)} requests of files, or of other hosts than {host}, are left out")
    if not any(sum(frame.direction == "send" for frame in each.frames) for each in chosen) and chosen:
        notes.append("the client sent nothing in this capture: a replay will only listen")
    _authorize(chosen, taken, calls, notes)
    session = _session(chosen, taken, str(((har.get("log") or {}).get("creator") or {}).get("name") or "HAR"))
    return Chosen(session, notes)


def _choose(sockets: list[Socket], url_match: str | None, notes: list[str]) -> list[Socket]:
    wanted = [each for each in sockets if url_match is None or url_match in each.url]
    kinds = {each.dialect for each in wanted}
    dialect = next((each for each in ("native", "centrifuge", "raw") if each in kinds), None)
    if url_match is None and dialect == "raw" and len({_place(each.url) for each in wanted}) > 1:
        most = max(wanted, key=lambda each: len(each.frames))
        wanted = [each for each in wanted if _place(each.url) == _place(most.url)]
    chosen = [each for each in wanted if each.dialect == dialect]
    notes += [f"{_bare(each.url)} ({len(each.frames)} messages) is left out" for each in sockets if each not in chosen]
    notes += [
        f"{_bare(each.url)} carried no messages in this capture ({each.place})" for each in chosen if not each.frames
    ]
    return chosen


def _what_is_missing(sockets: list[Socket], url_match: str | None) -> str:
    if not sockets:
        return "there is no WebSocket in this capture"
    return f"no WebSocket's URL holds {url_match!r}; there are " + ", ".join({_bare(each.url) for each in sockets})


def _authorize(sockets: list[Socket], taken: list[Call], calls: list[Call], notes: list[str]) -> None:
    """Give calls their token back: browsers export without ``Authorization``."""
    if not taken or any("authorization" in call.request.headers for call in calls):
        return
    if any("bearer" in each.lower() for socket in sockets for each in socket.subprotocols) or any(
        '"token"' in frame.data for socket in sockets for frame in socket.frames[:4] if isinstance(frame.data, str)
    ):
        for call in taken:
            call.request.headers["authorization"] = f"Bearer {TOKEN}"
        notes.append("the export has no Authorization headers: the calls were given the page's token")


def _session(sockets: list[Socket], calls: list[Call], creator: str) -> Session:
    origin = min([*(each.start for each in sockets), *(each.start for each in calls)])
    first = sockets[0] if sockets else None
    url = first.url if first else socket_url(calls[0].request.url)
    header = Header(
        url,
        first.dialect if first else "native",
        list(first.subprotocols) if first else ["tidegate.v1", f"bearer.{TOKEN}"],
        f"tidegate-load import ({creator[:60]})",
        datetime.fromtimestamp(origin, tz=UTC).isoformat(timespec="seconds"),
        len(sockets),
    )
    records: list[Record] = []
    for number, each in enumerate(sockets):
        other = each.url if each.url != header.url else None
        asked = each.subprotocols if each.subprotocols != header.subprotocols else None
        records.append(Opened(each.start - origin, number, other, asked))
        records += [Frame(at.t - origin, at.direction, at.data, at.op, number) for at in each.frames]
        records.append(Closed(each.end - origin, number))
    for call in calls:
        call.request.t, call.response.t = call.start - origin, call.start - origin + call.took
        records += [call.request, call.response]
    records.sort(key=lambda record: record.t)
    return Session(header, records)


def _place(url: str) -> str:
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].removesuffix({"https": ":443", "wss": ":443"}.get(parts.scheme, ":80"))


def _bare(url: str) -> str:
    return url.partition("?")[0][:100]
