"""The analytics event: what was asked of which service by whom, how long it took and how it ended.

Nothing in it is a text of a user: no prompt, no answer, no path, no query, no token. ``docs/events.md`` has each field.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from app.observe.outcomes import Ended, GenerationOutcome, Outcome

__all__ = ["AnalyticsEvent", "call_event", "generation_event", "weight"]

_LONGEST_MODEL = 256
"""Characters: the upstream says it."""
_BASE_WEIGHT = 600
"""Bytes that an event takes beside its own texts: its tuple, numbers, ids, and a place in a queue."""
_BAD_STATUS = 400


class AnalyticsEvent(NamedTuple):
    """The fields are those of :data:`app.config.EVENT_FIELDS`, in that order."""

    id: str
    """Never given twice: by it a receiver knows what it had already."""
    kind: Literal["call", "generation"]
    service: str
    status: Literal["success", "error"]
    timestamp: float
    """When it ended, in seconds since 1970."""
    latency_ms: float
    status_code: int | None
    """Of the answer to a call; None where there was none."""
    error_code: str | None
    user_id: str | None
    company_id: str | None
    route: str | None
    upstream: str | None
    model: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens_source: str | None
    request_id: str | None
    generation_id: str | None


def call_event(outcome: Outcome, id: str, now: float) -> AnalyticsEvent:
    """Return the event of a request that was passed on. ``now`` is in seconds since 1970."""
    status = outcome.status
    error = outcome.error or _error_of(outcome.ended, status)
    route = outcome.route
    fields = (
        id,
        "call",
        route.analytics,
        "success" if error is None else "error",
        now,
        outcome.seconds() * 1000.0,
        status or None,
        error,
        outcome.user_id,
        outcome.company_id,
        outcome.label,
        route.upstream or None,
        None,
        outcome.prompt_tokens,
        outcome.completion_tokens,
        outcome.usage_source or None,
        outcome.context.id.decode("ascii"),
        None,
    )
    return tuple.__new__(AnalyticsEvent, fields)  # a third of the time of a call by its fields' names


def _error_of(ended: Ended, status: int) -> str | None:
    if ended is Ended.COMPLETE:
        return f"http_{status}" if status >= _BAD_STATUS else None
    return "client_gone" if ended is Ended.CLIENT else "interrupted"


def generation_event(outcome: GenerationOutcome, service: str, id: str, now: float) -> AnalyticsEvent:
    """Return the event of a generation. ``now`` is in seconds since 1970."""
    completed = outcome.terminal == "completed"
    error = None if completed else outcome.code or outcome.terminal
    return AnalyticsEvent(
        id,
        "generation",
        service,
        "success" if completed else "error",
        now,
        outcome.seconds * 1000.0,
        None,
        error,
        outcome.user_id,
        outcome.company_id,
        None,
        outcome.upstream,
        None if outcome.model is None else outcome.model[:_LONGEST_MODEL],
        outcome.prompt_tokens,
        outcome.completion_tokens,
        outcome.tokens_source,
        None,
        outcome.id,
    )


def weight(event: AnalyticsEvent) -> int:
    """Return about how many bytes of memory the event takes. What all events share is not counted."""
    user, company, model = event.user_id, event.company_id, event.model
    return _BASE_WEIGHT + (len(user) if user else 0) + (len(company) if company else 0) + (len(model) if model else 0)
