"""The demo of the preset ``llm-platform``."""

from app.demo.companions import analytics, chat, image, speech, users
from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System(
    {"users": users, "llm_chat": chat, "image": image, "speech": speech, "analytics": analytics},
    try_first=(
        'curl {url}/api/auth/register --json \'{{"email": "ann@example.com", "password": "password123"}}\'',
        'curl {url}/api/image/generate --json \'{{"prompt": "a red boat"}}\'',
    ),
)
