"""``tidegate demo``: the gateway of a preset and the services that it needs, in one process."""

from app.demo.running import run

__all__ = ["run"]
