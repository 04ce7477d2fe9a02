"""The demo of the preset ``llm-microservices``."""

from app.demo.companions import chat, image, speech, summarizer, users
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    {"users": users, "image": image, "speech": speech, "summarizer": summarizer, "chat": chat},
    try_first=(
        'curl {url}/auth/register --json \'{{"email": "test@example.com", "password": "password123"}}\'',
        'curl {url}/image/generate --json \'{{"prompt": "a red boat"}}\'',
    ),
    direct=True,
)
