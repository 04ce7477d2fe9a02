"""What browsers are told to be careful about. Pure."""

from __future__ import annotations

from app.config import SecurityHeadersConfig
from app.http.edge.fields import Headers

__all__ = ["page_policy", "security_headers", "without_inline_styles"]


def security_headers(config: SecurityHeadersConfig, *, https: bool) -> Headers:
    """Return the fields for an answer that has none of them, to a client who asked by ``https`` or not."""
    if not config.enabled:
        return []
    fields = [(b"x-content-type-options", "nosniff")]
    if config.referrer_policy:
        fields.append((b"referrer-policy", config.referrer_policy))
    if config.frame_options:
        fields.append((b"x-frame-options", config.frame_options))
    if https and config.hsts_max_age:
        more = "; includeSubDomains" if config.hsts_subdomains else ""
        fields.append((b"strict-transport-security", f"max-age={config.hsts_max_age}{more}"))
    return [(name, value.encode("ascii")) for name, value in fields]


def page_policy(config: SecurityHeadersConfig) -> Headers:
    """Return the field that the gateway's own pages have besides."""
    if not (config.enabled and config.content_security_policy):
        return []
    return [(b"content-security-policy", config.content_security_policy.encode("ascii"))]


def without_inline_styles(policy: Headers) -> Headers:
    """Return a policy for pages that need no inline styles, as those of the API's documentation do."""
    return [(name, value.replace(b"style-src 'self' 'unsafe-inline'", b"style-src 'self'")) for name, value in policy]
