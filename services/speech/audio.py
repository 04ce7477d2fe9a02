"""Samples in files: WAV, MP3 or as they are. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import lameenc

__all__ = ["FORMATS", "Encoder", "encoder_of", "wav_header"]

FORMATS: Mapping[str, str] = MappingProxyType({"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm"})
"""Media types by format. ``pcm`` is 16 bits, little-endian, mono."""
_BITRATE = 64
_UNKNOWN = 0xFFFFFFFF


class Encoder(Protocol):
    """Takes samples, gives bytes of a file; what it gives joins to the file."""

    def begin(self) -> bytes:
        """What a stream begins with."""

    def encode(self, samples: bytes) -> bytes:
        """The bytes for some samples; may be none yet."""

    def end(self) -> bytes:
        """What is still held back."""

    def whole(self, body: bytes) -> bytes:
        """The finished file from all that ``encode`` and ``end`` gave."""


def encoder_of(name: str, sample_rate: int) -> Encoder:
    """An encoder for one file. ``name`` is a key of ``FORMATS``."""
    return _Mp3(sample_rate) if name == "mp3" else _Samples(sample_rate, headed=name == "wav")


def wav_header(sample_rate: int, size: int | None) -> bytes:
    """The header of a WAV of ``size`` bytes of samples; of an endless one where that is not known yet."""
    data = _UNKNOWN if size is None else size
    riff = _UNKNOWN if size is None else size + 36
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, sample_rate * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", riff, b"WAVE") + form + struct.pack("<4sI", b"data", data)


class _Samples:
    def __init__(self, sample_rate: int, *, headed: bool) -> None:
        self._sample_rate = sample_rate
        self._headed = headed

    def begin(self) -> bytes:
        return wav_header(self._sample_rate, None) if self._headed else b""

    def encode(self, samples: bytes) -> bytes:
        return samples

    def end(self) -> bytes:
        return b""

    def whole(self, body: bytes) -> bytes:
        return wav_header(self._sample_rate, len(body)) + body if self._headed else body


class _Mp3:
    def __init__(self, sample_rate: int) -> None:
        self._encoder = lameenc.Encoder()
        self._encoder.silence()
        self._encoder.set_bit_rate(_BITRATE)
        self._encoder.set_in_sample_rate(sample_rate)
        self._encoder.set_channels(1)
        self._encoder.set_quality(5)

    def begin(self) -> bytes:
        return b""

    def encode(self, samples: bytes) -> bytes:
        return bytes(self._encoder.encode(samples))

    def end(self) -> bytes:
        return bytes(self._encoder.flush())

    def whole(self, body: bytes) -> bytes:
        return body
