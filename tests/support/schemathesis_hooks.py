"""What schemathesis asks answers that last to be short: they last for as long as they are asked to, up to 30 s."""

from __future__ import annotations

from typing import Any

import schemathesis

_SHORT = 0.05


@schemathesis.hook
def before_call(context: Any, case: Any, **kwargs: Any) -> None:
    """Make good values small; what is wrong stays as it is."""
    query = dict(case.query or {})
    if case.path.endswith("/events") and _within(query.get("wait"), 0, 30):
        query["wait"] = _SHORT
    elif case.path == "/api/v1/diag/stream":
        if _within(query.get("count", 30), 1, 500):
            query["count"] = 2
        if _within(query.get("interval_ms", 100), 10, 5000):
            query["interval_ms"] = 10
    else:
        return
    case.query = query


def _within(value: Any, least: float, most: float) -> bool:
    try:
        return not isinstance(value, bool) and least <= float(value) <= most
    except (TypeError, ValueError):
        return False
