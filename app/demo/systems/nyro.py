"""The demo of the preset ``nyro``."""

from app.demo.system import System

__all__ = ["SYSTEM"]

SYSTEM = System({}, try_first=("curl {url}/",))
