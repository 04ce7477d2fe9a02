from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from app.ws.frames import text_frame


def parse(data: bytes) -> list[Frame]:
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames = []
    while reader.buffer:
        with pytest.raises(StopIteration) as stop:
            next(Frame.parse(reader.read_exact, mask=False, max_size=None))
        frames.append(stop.value.value)
    return frames


@pytest.mark.parametrize("size", [0, 1, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, 300_000])
def test_a_frame_of_every_length_class_is_what_the_library_reads_and_writes(size):
    payload = bytes(range(32, 122)) * (size // 90 + 1)
    payload = payload[:size]
    (frame,) = parse(text_frame(payload))
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, payload)
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_frames_follow_each_other_without_a_seam():
    payloads = [b"a", b"b" * 126, b"", b"c" * 70_000, b"d"]
    assert [bytes(frame.data) for frame in parse(b"".join(map(text_frame, payloads)))] == payloads
