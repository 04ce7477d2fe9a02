"""The gateway's own HTTP endpoints, as one FastAPI application."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

import app
from app.config import KNOWN_SECRETS, Config
from app.http.api.app import create_api
from app.http.api.page_policy import PagePolicy
from app.http.api.pages import add_pages
from app.http.api.playground import playground_router
from app.http.api.preview import preview_router
from app.http.edge.security_headers import page_policy, without_inline_styles
from app.http.openapi.following import ApiDocument

__all__ = ["create_rest_api", "version"]

_WEB = Path(app.__file__).parent / "web"


def version() -> str:
    """Return the installed package's version; 0 where it runs from its folder."""
    try:
        return importlib.metadata.version("tidegate")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def create_rest_api(config: Config, routers: list[APIRouter], document: ApiDocument) -> FastAPI:
    """Return ``routers`` as one application, with the pages about it, and the playground where it is wanted."""
    playground, policy = config.server.playground, page_policy(config.server.security_headers)
    api = create_api(
        routers,
        version=version(),
        home="/playground/" if playground else "/docs",
        body_limit=config.server.body_limit,
        policy=policy,
    )
    add_pages(api, _WEB / "docs", document.whole)
    if playground:
        # Where the secret is everybody's, everybody may have a token of it.
        key, issuer = config.auth.all_issuers()[0]
        if not key and issuer.secret.get_secret_value() in KNOWN_SECRETS and "HS256" in issuer.algorithms:
            api.include_router(playground_router(config.auth))
        api.include_router(preview_router(_WEB / "playground"))
        pages = StaticFiles(directory=_WEB / "playground", html=True)
        api.mount("/playground", PagePolicy(pages, without_inline_styles(policy)))
    return api
