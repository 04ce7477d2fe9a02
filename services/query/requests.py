"""What can be asked, and what comes back."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from services.library.records import Found

__all__ = ["AskRequest", "SearchRequest", "citation"]

_QUOTE = 400
"""Characters of a citation's text."""
_ID = Annotated[str, Field(min_length=1, max_length=64)]


class SearchRequest(BaseModel):
    """A question to a company's documents. The question has several names, those of chats too."""

    model_config = ConfigDict(extra="ignore")

    query: Annotated[
        str, Field(min_length=1, validation_alias=AliasChoices("query", "question", "message", "prompt", "input"))
    ]
    top_k: Annotated[int | None, Field(ge=1, le=50)] = None
    document_ids: Annotated[list[_ID], Field(max_length=100)] = []

    @model_validator(mode="before")
    @classmethod
    def _of_messages(cls, value: Any) -> Any:
        """The last message of a user is the question of a chat."""
        if isinstance(value, dict) and isinstance(messages := value.get("messages"), list) and "query" not in value:
            asked = [one for one in messages if isinstance(one, dict) and one.get("role") == "user"]
            if asked:
                return {**value, "query": asked[-1].get("content")}
        return value

    @model_validator(mode="after")
    def _asks_something(self) -> SearchRequest:
        if not re.search(r"\w", self.query):
            raise ValueError("query must hold a word")
        return self


class AskRequest(SearchRequest):
    """A question to be answered: whole, as server-sent events (``true``), or as JSON lines."""

    stream: bool | Literal["sse", "jsonl"] = False


def citation(index: int, found: Found, quote: str = "") -> dict[str, Any]:
    """A passage as a citation; ``index`` counts from 1, as ``[1]`` in the answer."""
    text = quote or found.text
    return {
        "index": index,
        "document_id": found.document,
        "title": found.title,
        "passage": found.number,
        "page": found.page or None,
        "heading": found.heading,
        "text": text if len(text) <= _QUOTE else text[: _QUOTE - 1] + "…",
        "score": round(found.score, 6),
        "url": f"/api/v1/ingest/documents/{found.document}/passages?after={found.number - 1}&limit=1",
    }
