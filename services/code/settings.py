"""What can be set: in code by name, in the environment as ``CODE_<NAME>``. Sizes are bytes, durations seconds."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from services.web.settings import HttpUrl, ServiceSettings

__all__ = ["CodeSettings"]


class CodeSettings(ServiceSettings):
    """The code service's settings. With ``base_url`` and ``api_key`` a vision model writes the code."""

    prefix: ClassVar[str] = "CODE_"
    together: ClassVar[tuple[str, ...]] = ("base_url", "api_key")

    pieces_per_second: float = Field(200.0, ge=0, le=100_000)
    """Pace of each variant's stream; 0 is as fast as possible."""
    max_variants: int = Field(4, ge=1, le=8)
    image_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    image_pixels: int = Field(20_000_000, ge=64)
    """Of a screenshot, unpacked; told by its header before it is unpacked."""
    workers: int = Field(1, ge=1, le=64)
    """Generations at once."""
    queue_limit: int = Field(32, ge=0, le=10_000)
    keep: int = Field(32, ge=0, le=10_000)
    """Ended generations that are remembered, and can be refined."""
    base_url: HttpUrl | None = None
    """An OpenAI-compatible server with a vision model, up to and with its version."""
    api_key: SecretStr | None = None
    model: str = Field("gpt-4o", min_length=1, max_length=200)
    read_timeout: float = Field(120.0, gt=0)
    max_output: int = Field(512 * 1024, ge=1024)
    """Of one variant that the vision model writes."""

    @property
    def body_limit(self) -> int:
        """Bytes of a request: a screenshot in base 64 and some text."""
        return self.image_bytes * 4 // 3 + 256 * 1024
