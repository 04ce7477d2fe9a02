"""What can be set: in code by name, in the environment as ``IMAGE_<NAME>``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from services.studio.settings import StudioSettings

__all__ = ["ImageSettings"]


class ImageSettings(StudioSettings):
    """The image service's settings."""

    prefix: ClassVar[str] = "IMAGE_"

    storage: str = Field("out/images", min_length=1)
    steps: int = Field(8, ge=1, le=50)
    """Steps of a picture where a request names none."""
    max_side: int = Field(2048, ge=64, le=8192)
    """Pixels of a picture's longer side."""
    max_images: int = Field(8, ge=1, le=64)
    """Pictures of one request."""
    max_batch: int = Field(16, ge=1, le=256)
    """Requests of one batch."""
