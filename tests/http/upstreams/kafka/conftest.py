"""Nothing here knows of sockets itself: one event loop, the one that the gateway runs on, is enough."""

from __future__ import annotations

import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"uvloop": uvloop.new_event_loop}
