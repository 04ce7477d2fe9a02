"""The names that clients give voices, and what eSpeak has for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FEATURED", "MODELS", "Speaker", "speaker_of", "speed_of"]

_ALIASES = {
    "en": "en-us", "fr": "fr-fr", "zh": "cmn", "zh-cn": "cmn", "zh-tw": "cmn", "zh-hans": "cmn", "no": "nb",
    "pt-pt": "pt", "en-uk": "en-gb", "es-es": "es", "es-mx": "es-419", "de-de": "de", "it-it": "it", "ja-jp": "ja",
}  # fmt: skip
FEATURED = ("en", "es", "fr", "de", "it", "pt", "pt-br", "ja", "zh-CN", "ru", "ko", "ar", "hi", "nl", "pl", "tr", "sv")
_NAMED = {
    "alloy": ("", 50), "echo": ("+m3", 40), "fable": ("+m5", 55), "onyx": ("+m7", 25), "nova": ("+f2", 60),
    "shimmer": ("+f4", 70), "ash": ("+m1", 45), "ballad": ("+m4", 50), "coral": ("+f3", 60), "sage": ("+f1", 50),
    "verse": ("+m2", 50),
}  # fmt: skip
"""OpenAI's voices: American English in different colours."""
MODELS = {"espeak": 1.0, "espeak-slow": 0.65}
_MODEL_ALIASES = {
    "gtts": "espeak", "gtts-slow": "espeak-slow", "normal": "espeak", "slow": "espeak-slow", "tts-1": "espeak",
    "tts-1-hd": "espeak", "gpt-4o-mini-tts": "espeak",
}  # fmt: skip
_WORDS_PER_MINUTE = 175
_TAG = re.compile(r"[a-z]{2,8}(-[a-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class Speaker:
    """eSpeak's name of a voice, and a pitch of 0 … 100."""

    voice: str
    language: str
    pitch: int


def speaker_of(name: str, files: Mapping[str, str]) -> Speaker | None:
    """The speaker for a client's name of a voice, or None. ``files`` are eSpeak's voices by language."""
    wanted = name.strip().lower().replace("_", "-")
    if wanted in _NAMED:
        colour, pitch = _NAMED[wanted]
        return Speaker(files["en-us"] + colour, "en-us", pitch)
    if not _TAG.fullmatch(wanted):
        return None
    for candidate in (_ALIASES.get(wanted, wanted), wanted.split("-")[0], _ALIASES.get(wanted.split("-")[0], "")):
        if candidate in files:
            return Speaker(files[candidate], candidate, 50)
    return None


def speed_of(model: str, speed: float) -> tuple[str, int] | None:
    """The model's own name and its words per minute, or None where there is no such model."""
    name = _MODEL_ALIASES.get(model, model)
    pace = MODELS.get(name)
    return None if pace is None else (name, max(80, min(450, round(_WORDS_PER_MINUTE * pace * speed))))
