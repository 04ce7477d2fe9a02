"""The demo of the preset ``llm-microservices``."""

from app.demo.companions import chat, image, speech
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    {"image": image, "speech": speech, "chat": chat},
    try_first=('curl {url}/image/generate --json \'{{"prompt": "a red boat"}}\'',),
)
