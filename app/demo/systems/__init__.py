"""The systems that can be tried, a module each, by the names of their presets."""

from __future__ import annotations

from app.demo.system import System
from app.demo.systems import chat_kafka, demo, llm_microservices, llm_platform, nyro, screenshot_to_code

__all__ = ["SYSTEMS"]

SYSTEMS: dict[str, System] = {
    "chat-kafka": chat_kafka.SYSTEM,
    "demo": demo.SYSTEM,
    "llm-microservices": llm_microservices.SYSTEM,
    "llm-platform": llm_platform.SYSTEM,
    "nyro": nyro.SYSTEM,
    "screenshot-to-code": screenshot_to_code.SYSTEM,
}
