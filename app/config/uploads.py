"""What can be set about files that clients send."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from app.config.section import LOWER_CASE, Section

__all__ = ["UploadConfig"]

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/([a-z0-9!#$&^_.+-]+|\*)")
_TYPES = (
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/heic",
    "application/pdf",
    "audio/mpeg",
    "audio/mp4",
    "audio/ogg",
    "audio/wav",
    "video/mp4",
    "video/webm",
)


class UploadConfig(Section):
    """Bodies of `multipart/form-data`, checked while they pass: who sends what is not allowed is answered 413, 415 or
    422, with the `field` that it is about."""

    types: tuple[Annotated[str, LOWER_CASE], ...] = _TYPES
    """Media types that files may be of, by their first bytes, whatever is declared; `image/*` for a family. SVG, which
    can hold scripts, and HTML only where they are named. What cannot be told by bytes (`text/csv`) is taken as
    declared."""
    max_file_bytes: int = Field(20 * 1024 * 1024, ge=1)
    """Largest file."""
    max_files: int = Field(10, ge=1)
    """Files of one body."""
    fields: tuple[str, ...] = ()
    """Names of the fields that files may come in; empty for any."""
    max_fields: int = Field(100, ge=0)
    """Other fields of one body."""
    max_field_bytes: int = Field(1024 * 1024, ge=0)
    """Largest value of another field."""
    memory: int = Field(256 * 1024, ge=0)
    """Of a start that is a form: bytes of it that are held in memory while it comes; more waits on disk, where
    temporary files are (`TMPDIR`)."""
    other_bodies: bool = False
    """Whether bodies of other media types pass as well, unchecked; else they are answered 415."""

    @field_validator("types")
    @classmethod
    def _types_are_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        for kind in types:
            if not _TYPE.fullmatch(kind):
                raise ValueError(f"holds {kind!r}, which is no media type. Write image/png, or image/* for a family")
        return types
