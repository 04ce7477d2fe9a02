"""Configurations that come with the program, each for a system whose clients and services need not change."""

from __future__ import annotations

import difflib
from pathlib import Path

from app.errors import ConfigError

__all__ = ["preset_file", "preset_names", "preset_summary"]

_FOLDER = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """Return the names that there are, in order."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset_file(name: str) -> Path:
    """Return where a preset is. Raises :exc:`~app.errors.ConfigError` where there is none of that name."""
    names = preset_names()
    if name in names:
        return _FOLDER / f"{name}.toml"
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"Did you mean {close[0]}?" if close else f"There are: {', '.join(names)}."
    raise ConfigError(f"there is no preset {name[:64]!r}. {meant}")


def preset_summary(name: str) -> str:
    """Return what a preset is for: the first line of its file, which is a comment. Raises as :func:`preset_file`."""
    first = preset_file(name).read_text("utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()
