"""The demo of the preset ``chat-kafka``."""

from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System({}, try_first=("curl {url}/health",))
