"""A body is never held whole: memory stays flat whatever passes, either way, also to a reader who is slower.

``TIDEGATE_BODY_MB`` says how many megabytes pass each way (64): ``make large`` sends a gigabyte.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.http.support import raw_server
from tests.support.gateway import Process, token

MEGABYTE = 1024 * 1024
SIZE = int(os.environ.get("TIDEGATE_BODY_MB", "64")) * MEGABYTE
PIECE = b"0123456789abcdef" * (16 * 1024)
GROWTH = 8 * MEGABYTE
"""By so much the process may grow at its peak: buffers of two sockets and what the allocator keeps of them."""
WITHIN = 30.0 + SIZE / (10 * MEGABYTE)
"""Seconds after which a test gives up."""


async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends ``SIZE`` bytes to who asks, and tells who sends how many came."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"get "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            for _ in range(SIZE // len(PIECE)):
                writer.write(PIECE)
                await writer.drain()
            continue
        came = 0
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                await reader.readexactly(size + 2)
                came += size
            await reader.readexactly(2)
        answer = b"%d" % came
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    gateways: list[Process] = []

    def start(url: str) -> Process:
        path = tmp_path / "gateway.toml"
        path.write_text(
            f'[server]\nlog_level = "error"\nplayground = false\nbody_limit = {SIZE + 1000}\n'
            f'[upstreams.files]\ntargets = ["{url}"]\n'
            '[[routes]]\npath = "/files/*"\nupstream = "files"\nauth = "none"\n'
            '[[routes]]\npath = "/images/*"\nupstream = "files"\nauth = "none"\n'
            f"[routes.upload]\nmax_file_bytes = {SIZE}\n"
            f"[generations.upload]\nmax_file_bytes = {SIZE}\n"
            '[generations.kinds.code]\nupstream = "files"\nformat = "json-lines"\npath = "/generate"\n'
        )
        gateways.append(Process(path))
        return gateways[-1]

    yield start
    for gateway in gateways:
        gateway.stop()


def memory(gateway: Process, what: str) -> int:
    """Return ``VmRSS`` or ``VmHWM``, the highest so far, in bytes."""
    found = re.search(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{gateway.process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def download(port: int) -> int:
    """Return how many bytes of a body came, the first of which were left lying for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /files/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.5)  # The upstream would have sent all by now, had anybody taken it.
    came = 0
    while data := await reader.read(MEGABYTE):
        came += len(data)
    writer.close()
    await writer.wait_closed()
    return came


FORM = b'--tide\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
FORM += b"\x89PNG\r\n\x1a\n"
FORM_END = b"\r\n--tide--\r\n"


async def upload(
    port: int, path: bytes = b"/files/large", before: bytes = b"", after: bytes = b"", user: str = ""
) -> bytes:
    """Send a body; return what the upstream said of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    size = len(before) + (SIZE // len(PIECE) - 1) * len(PIECE) + len(after) if before else SIZE
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n" % (path, size)
    head += b"Content-Type: multipart/form-data; boundary=tide\r\n" if before else b""
    head += f"Authorization: Bearer {token(user)}\r\n".encode() if user else b""
    writer.write(head + b"\r\n" + before)
    for _ in range(SIZE // len(PIECE) - bool(before)):
        writer.write(PIECE)
        await writer.drain()
    writer.write(after)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_memory_stays_flat_whatever_passes_down_and_up(start) -> None:
    async with raw_server(upstream) as server, asyncio.timeout(WITHIN):
        gateway = await asyncio.to_thread(start, server.url)
        peak = Path(f"/proc/{gateway.process.pid}/clear_refs")
        before = memory(gateway, "VmRSS")
        peak.write_text("5")  # From now on the highest is counted anew (proc(5)).
        assert await download(gateway.port) == SIZE
        down = memory(gateway, "VmHWM") - before
        peak.write_text("5")
        assert (await upload(gateway.port)).endswith(b"\r\n\r\n%d" % SIZE)
        up = memory(gateway, "VmHWM") - before
    assert down < GROWTH, f"{down / MEGABYTE:.1f} MB for a body of {SIZE / MEGABYTE:.0f} MB down"
    assert up < GROWTH, f"{up / MEGABYTE:.1f} MB for a body of {SIZE / MEGABYTE:.0f} MB up"


async def test_memory_stays_flat_while_the_files_of_a_form_are_checked(start) -> None:
    async with raw_server(upstream) as server, asyncio.timeout(WITHIN):
        gateway = await asyncio.to_thread(start, server.url)
        before = memory(gateway, "VmRSS")
        Path(f"/proc/{gateway.process.pid}/clear_refs").write_text("5")
        size = len(FORM) + SIZE - len(PIECE) + len(FORM_END)
        assert (await upload(gateway.port, b"/images/edit", FORM, FORM_END)).endswith(b"\r\n\r\n%d" % size)
        up = memory(gateway, "VmHWM") - before
    assert up < GROWTH, f"{up / MEGABYTE:.1f} MB for a form of {SIZE / MEGABYTE:.0f} MB"


async def test_memory_stays_flat_while_a_form_with_a_file_starts_a_generation(start) -> None:
    """The file becomes base 64 within JSON, a third larger than itself, on its way to the upstream."""
    size = SIZE - len(PIECE) + 8
    encoded = (size + 2) // 3 * 4
    form = b'--tide\r\nContent-Disposition: form-data; name="kind"\r\n\r\ncode\r\n' + FORM
    async with raw_server(generating) as server, asyncio.timeout(2 * WITHIN):
        gateway = await asyncio.to_thread(start, server.url)
        before = memory(gateway, "VmRSS")
        Path(f"/proc/{gateway.process.pid}/clear_refs").write_text("5")
        answer = await upload(gateway.port, b"/api/v1/generations?wait=true", form, FORM_END, "alice")
        up = memory(gateway, "VmHWM") - before
    assert b'"status":"completed"' in answer, answer
    came = int(re.findall(rb'"text":"(\d+)"', answer)[0])
    assert 0 < came - encoded < 200, "the JSON is the file and little else"
    assert up < GROWTH, f"{up / MEGABYTE:.1f} MB for a form of {SIZE / MEGABYTE:.0f} MB"


async def generating(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with a text: how many bytes of a request came."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    size = int(re.findall(rb"content-length: (\d+)", head)[0])
    came = 0
    while came < size and (data := await reader.read(MEGABYTE)):
        came += len(data)
    answer = b'{"text":"%d"}\n{"done":true}\n' % came
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
    )
