"""Whose documents are asked for: the company that the gateway names. Nobody's documents are everybody's."""

from __future__ import annotations

import hashlib

from starlette.requests import HTTPConnection

from services.web.callers import caller_of
from services.web.errors import Forbidden

__all__ = ["shelf_of", "shelf_of_caller"]


def shelf_of(company: str) -> str:
    """The name of a company's shelf: 32 hexadecimal digits."""
    return hashlib.sha256(company.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def shelf_of_caller(request: HTTPConnection) -> str:
    """The shelf of the company in ``X-Company-ID``. Raises ``Forbidden`` where none is named."""
    company = caller_of(request).company
    if not company:
        raise Forbidden("User authenticated, but company association is missing.")
    return shelf_of(company)
