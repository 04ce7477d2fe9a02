"""How an answer ends that broke off in the middle.

ASGI has no message for it. uvicorn (``httptools_impl.RequestResponseCycle.run_asgi``) closes the connection without the
last chunk when the application raises after the answer has begun, which is what a client must see: a chunked body that
ended cleanly would look complete. But it also logs a traceback, as if the gateway had a bug. So the proxy raises an
exception of its own, after it logged what happened, and a filter takes that one out of uvicorn's log.
"""

from __future__ import annotations

import logging

__all__ = ["ResponseAborted", "quiet_aborted_responses"]


class ResponseAborted(Exception):
    """The answer cannot be completed: close the client's connection. Already logged by who raises it."""


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], ResponseAborted))


def quiet_aborted_responses() -> None:
    """Take :exc:`ResponseAborted` out of uvicorn's error log. Idempotent."""
    logger = logging.getLogger("uvicorn.error")
    if not any(isinstance(existing, _Quiet) for existing in logger.filters):
        logger.addFilter(_Quiet())
