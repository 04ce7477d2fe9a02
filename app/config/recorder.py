"""What can be set about recording sockets for load tests."""

from __future__ import annotations

from pydantic import Field, model_validator

from app.config.section import Section, WrongSetting

__all__ = ["RecorderConfig"]


class RecorderConfig(Section):
    """Write what chosen sockets carry into files that `tidegate-load replay` plays. Off unless a folder is set and
    somebody is chosen. Tokens are taken out; what people say is in them."""

    folder: str = ""
    """Where the files go, one for each socket, for their owner only. Empty: nothing is recorded."""
    users: tuple[str, ...] = ()
    """Sockets of these users are recorded."""
    sessions: tuple[str, ...] = ()
    """Sockets of these names (`?connection_id=`) are recorded."""
    share: float = Field(0.0, ge=0, le=1)
    """So many of all sockets are recorded, by chance."""
    max_bytes: int = Field(20_000_000, ge=1000)
    """A socket's file ends when it is so large."""
    max_seconds: float = Field(3600.0, gt=0)
    """A socket's file ends after so many seconds."""
    max_files: int = Field(100, ge=1, le=100_000)
    """A process begins no more than so many files."""

    @model_validator(mode="after")
    def _has_a_folder(self) -> RecorderConfig:
        if not self.folder and (self.users or self.sessions or self.share):
            raise WrongSetting(("folder",), "is not set, but somebody is to be recorded. Name a folder")
        return self
