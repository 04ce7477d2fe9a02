"""What clients ask for, checked. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.image.prompt import STYLES
from services.web.errors import Invalid

__all__ = ["MODEL", "BatchRequest", "GenerateRequest", "OpenAIRequest", "size_of"]

MODEL = "procedural-1"
PROMPT_LIMIT = 4000
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
_NAMED = {"auto": (512, 512), "square": (512, 512), "landscape": (768, 512), "portrait": (512, 768)}


def _not_blank(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("must not be empty")
    return value


Prompt = Annotated[str, BeforeValidator(_not_blank), Field(min_length=1, max_length=PROMPT_LIMIT)]
Seed = Annotated[int, Field(ge=0, lt=2**48)]
# ``extra`` is ignored: clients of other services send more than is known here.
_CONFIG = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class GenerateRequest(BaseModel):
    """One generation. Which model or provider is named does not matter: there is one, which says so in its answer."""

    model_config = _CONFIG | ConfigDict(
        json_schema_extra={"example": {"prompt": "A beautiful sunset over mountains", "size": "512x512", "seed": 7}}
    )

    prompt: Prompt
    size: str = Field("512x512", max_length=16, description="WIDTHxHEIGHT, auto, square, landscape or portrait")
    seed: Seed | None = Field(None, description="The same prompt, seed and size give the same picture")
    num_images: int = Field(1, ge=1, le=64)
    steps: int | None = Field(None, ge=1, le=50)
    scene: Literal["mountains", "ocean", "space", "city", "forest", "fractal", "mosaic", "flow"] | None = None
    style: Literal["natural", "vivid", "pixel", "watercolor", "monochrome", "minimal"] | None = None
    model: str | None = Field(None, max_length=200)
    provider: str | None = Field(None, max_length=200)
    callback_url: str | None = Field(None, max_length=2000)
    wait: bool | None = Field(None, alias="sync", description="Answer when the picture is made, or at once with 202")
    stream: bool = Field(False, description="Answer with the events of the generation")


class BatchRequest(BaseModel):
    """Several generations, each a job of its own: all are taken or none."""

    model_config = _CONFIG

    requests: list[GenerateRequest] = Field(min_length=1, max_length=256)


class OpenAIRequest(BaseModel):
    """``POST /v1/images/generations`` of OpenAI's API. ``seed`` and ``steps`` are extensions."""

    model_config = _CONFIG

    prompt: Prompt
    model: str | None = Field(None, max_length=200)
    n: int | None = Field(None, ge=1, le=10)
    size: str | None = Field(None, max_length=16)
    quality: str | None = Field(None, max_length=32)
    style: str | None = Field(None, max_length=32)
    background: Literal["transparent", "opaque", "auto"] | None = None
    output_format: Literal["png"] | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    user: str | None = Field(None, max_length=256)
    seed: Seed | None = None
    steps: int | None = Field(None, ge=1, le=50)

    def generation(self) -> GenerateRequest:
        """The same in this service's words."""
        style = self.style if self.style in STYLES else None
        return GenerateRequest(
            prompt=self.prompt, size=self.size or "auto", seed=self.seed, steps=self.steps,
            num_images=self.n or 1, style=style, model=self.model,
        )  # fmt: skip


def size_of(text: str, max_side: int) -> tuple[int, int]:
    """Width and height in pixels. Raises ``Invalid``."""
    match = _SIZE.fullmatch(text)
    size = (int(match[1]), int(match[2])) if match else _NAMED.get(text)
    if size is None:
        raise Invalid("size must be WIDTHxHEIGHT, for example 512x512.", "size")
    if not 64 <= min(size) <= max(size) <= max_side:
        raise Invalid(f"size: each side has 64 to {max_side} pixels.", "size")
    return size
