"""eSpeak NG's library, which a wheel brings with its data.

The library has one state for the whole process: one call at a time, under a lock, and it is loaded once. What is said
before comes back by way of its callback while it speaks, so that a listener need not wait for the end.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import espeakng_loader

__all__ = ["Espeak", "Voice", "load_espeak"]

_SYNCHRONOUS = 2
_BUFFER = 200
"""Milliseconds of sound in one callback."""
_UTF8 = 1
_RATE, _PITCH = 1, 3
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _VoiceStruct(ctypes.Structure):
    """``espeak_VOICE`` of eSpeak NG's speak_lib.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("unused", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Voice:
    """A language as eSpeak names it: ``en-us``, ``English (America)``; ``file`` is what is loaded for it."""

    language: str
    name: str
    file: str


@cache
def load_espeak() -> Espeak:
    """The process's one library. Raises ``OSError`` where it cannot be loaded."""
    return Espeak(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())


class Espeak:
    """The library, loaded and ready."""

    def __init__(self, library: str, data: str) -> None:
        self._library = ctypes.CDLL(library)
        self._lock = threading.Lock()
        self._library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceStruct))
        self._library.espeak_ListVoices.argtypes = [ctypes.c_void_p]
        self._library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        self.sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, _BUFFER, data.encode(), 0))
        if self.sample_rate <= 0:
            raise OSError("eSpeak NG cannot read its data")
        self.voices = self._list()

    def say(self, text: str, voice: str, words_per_minute: int, pitch: int, take: Callable[[bytes], bool]) -> None:
        """Speak ``text``. ``take`` gets samples (16 bits, little-endian, mono); when it returns False, speech ends.

        ``voice`` is a ``Voice.file``, with ``+f2`` or the like for a colour of voice; ``pitch`` is 0 … 100. What is
        said twice differs a little: eSpeak lets the pitch flutter. Raises ``ValueError`` for a voice that there is not,
        ``OSError`` when speaking fails.
        """
        failed: list[BaseException] = []

        def called(samples: ctypes._Pointer[ctypes.c_short], count: int, _: int) -> int:
            if not samples or count <= 0:
                return 0
            try:
                return 0 if take(ctypes.string_at(samples, count * 2)) else 1
            except BaseException as error:  # It cannot pass through C: it is raised again below.
                failed.append(error)
                return 1

        callback = _CALLBACK(called)
        data = text.replace("\0", " ").encode("utf-8", "replace") + b"\0"
        with self._lock:
            self._library.espeak_SetSynthCallback(callback)
            if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise ValueError(f"no voice {voice}")
            self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
            self._library.espeak_SetParameter(_PITCH, pitch, 0)
            result = self._library.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        if failed:
            raise failed[0]
        if result != 0:
            raise OSError(f"eSpeak NG failed with {result}")

    def _list(self) -> tuple[Voice, ...]:
        found = []
        entries = self._library.espeak_ListVoices(None)
        index = 0
        while entries[index]:
            entry = entries[index].contents
            # The list begins with a byte for its priority.
            language = ctypes.string_at(entry.languages + 1).decode().lower()
            found.append(Voice(language, entry.name.decode(), entry.identifier.decode()))
            index += 1
        # Where two have one language, the first has the higher priority.
        first = {voice.language: voice for voice in reversed(found)}
        return tuple(sorted(first.values(), key=lambda voice: voice.language))
