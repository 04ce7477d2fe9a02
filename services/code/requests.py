"""What clients ask for, checked. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GenerateRequest", "RefineRequest", "Stack"]

Stack = Literal["html_css", "html_tailwind", "react_tailwind", "vue_tailwind"]
_CONFIG = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class GenerateRequest(BaseModel):
    """A screenshot, or words, and what to write."""

    model_config = _CONFIG | ConfigDict(
        json_schema_extra={"example": {"image": "data:image/png;base64,…", "code_stack": "react_tailwind"}}
    )

    image: str | None = Field(None, description="A data URL of a PNG, JPEG, WebP or GIF")
    prompt: str | None = Field(None, max_length=4000, description="Where there is no image; beside it, instructions")
    code_stack: Stack = "html_tailwind"
    generation_type: Literal["create", "update"] = "create"
    should_generate_images: bool = Field(False, description="Put the screenshot's own pictures in, small")
    files: dict[str, str] | None = Field(
        None, description="Code that was written here, to be changed as the prompt says; the first file counts"
    )
    variants: int = Field(1, ge=1, le=8, alias="num_variants")
    variant: int = Field(0, ge=0, le=63, description="The first variant's strategy, by its place in the list")
    base_code: str | None = Field(None, max_length=1_000_000, description="With generation_type update: what to change")
    wait: bool = Field(False, alias="sync", description="Answer when the code is written, or at once with 202")
    stream: bool = Field(False, description="Answer with the events of the generation")


class RefineRequest(BaseModel):
    """A change to one variant of a generation."""

    model_config = _CONFIG

    instruction: str = Field(min_length=1, max_length=2000)
    variant: int = Field(0, ge=0, le=7)
    code_stack: Stack | None = None
    wait: bool = Field(False, alias="sync")
    stream: bool = False
