"""The demo of the preset ``demo``."""

from app.demo.companions import chat, code, image, speech
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    {"chat": chat, "image": image, "code": code, "speech": speech},
    try_first=('{tidegate} chat "What is light?" --url {url}',),
)
