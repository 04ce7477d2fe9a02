"""Only the exception that says "cut this connection" is kept out of uvicorn's log."""

from __future__ import annotations

import logging

from app.http.aborted import ResponseAborted, quiet_aborted_responses


def test_only_aborted_responses_are_kept_out_of_the_log(caplog):
    quiet_aborted_responses()
    quiet_aborted_responses()
    logger = logging.getLogger("uvicorn.error")
    assert len([one for one in logger.filters if type(one).__module__ == "app.http.aborted"]) == 1
    logger.error("Exception in ASGI application", exc_info=ResponseAborted())
    logger.error("Exception in ASGI application", exc_info=ValueError("a fault"))
    logger.error("something else")
    assert [bool(record.exc_info) for record in caplog.records] == [True, False]
