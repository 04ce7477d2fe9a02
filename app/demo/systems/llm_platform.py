"""The demo of the preset ``llm-platform``."""

from app.demo.companions import chat, image, speech
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    {"llm_chat": chat, "image": image, "speech": speech},
    try_first=('curl {url}/api/image/generate --json \'{{"prompt": "a red boat"}}\'',),
)
