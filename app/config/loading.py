"""Reading the configuration: flags over the environment over the file over the defaults.

``${NAME}`` and ``${NAME:-default}`` inside the file's texts come from the environment (``$${`` stands for ``${``), and
every value can also be set as ``GATEWAY_<TABLE>__<KEY>``. Whatever is wrong becomes one
:exc:`~app.errors.ConfigError` with a line for each fault: where it was written, the key, what is wrong, the cure. A
line never shows a value that is a secret.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.config.environment import UnknownVariable, key_of
from app.config.faults import faults_of
from app.config.model import Config
from app.config.schema import Key, dotted
from app.errors import ConfigError

__all__ = ["load_config"]

_VARIABLE = re.compile(r"\$(?P<literal>\$)?\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")
_TLS_FILES = frozenset({"tls_ca", "tls_certificate", "tls_key"})


def load_config(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration of the file ``path`` (None for none) with what lies over it.

    ``overrides`` are the command line's, by dotted key (``{"server.port": 9000}``) or nested; a value of None stands
    for a flag that was not given. Raises :exc:`~app.errors.ConfigError`.
    """
    draft = _Draft(_read(path), "the configuration" if path is None else str(path))
    draft.overlay_environment(environ)
    draft.overlay_flags(overrides or {})
    draft.expand(environ)
    folder = Path() if path is None else path.parent
    draft.read_public_keys(folder)
    draft.place_tls_files(folder)
    return draft.finish()


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file. Name an existing one with --config.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a readable file with --config.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}. Mend that line.") from error


class _Draft:
    """The values so far, who wrote them, and what is wrong with them."""

    def __init__(self, data: dict[str, Any], file: str) -> None:
        self._data = data
        self._file = file
        self._authors: dict[Key, str] = {}
        """Of the keys that did not come from the file."""
        self._faults: dict[Key, str] = {}

    def overlay_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(environ):
            try:
                key = key_of(variable, environ[variable], self._data)
            except UnknownVariable as error:
                self._faults[variable,] = f"{variable}, a variable of the environment, {error}"
                continue
            if key is not None:
                self._put(key, environ[variable], f"{variable}, a variable of the environment")

    def overlay_flags(self, overrides: Mapping[str, Any], above: Key = ()) -> None:
        for name, value in overrides.items():
            key = (*above, *name.split("."))
            if isinstance(value, Mapping):
                self.overlay_flags(value, key)
            elif value is not None:
                self._put(key, value, "the command line")

    def expand(self, environ: Mapping[str, str]) -> None:
        """Put the environment's values for ``${…}`` into the texts that the file wrote."""
        for key, text in list(_texts(self._data)):
            if "${" not in text or self._author(key) != self._file:
                continue
            try:
                self._put(key, _expanded(text, environ), self._file)
            except ValueError as error:
                self._fault(key, str(error))

    def read_public_keys(self, folder: Path) -> None:
        """Replace the paths of PEM files by what is in them."""
        for key, text in list(_texts(self._data.get("auth"), ("auth",))):
            if key[-1] == "public_key" and len(key) in (2, 4) and text and key not in self._faults:
                self._read_public_key(key, text, folder)

    def _read_public_key(self, key: Key, text: str, folder: Path) -> None:
        if "-----BEGIN" not in text:
            try:
                text = (folder / text).read_text()
            except (OSError, UnicodeDecodeError, ValueError):
                self._fault(key, "names a file that cannot be read. Give PEM text, or the path of a PEM file.")
                return
        if "PRIVATE KEY" in text:
            self._fault(key, "is a private key. The gateway only needs the public one; keep the other away.")
        self._put(key, text.replace("\\n", "\n"), self._author(key))

    def place_tls_files(self, folder: Path) -> None:
        """Make the paths of TLS files that are relative to the configuration's folder so to where the gateway runs."""
        for key, text in list(_texts(self._data.get("upstreams"), ("upstreams",))):
            if len(key) != 3 or key[2] not in _TLS_FILES or not text:
                continue
            path = folder / text
            if path.is_file():
                self._put(key, str(path), self._author(key))
            else:
                self._fault(key, "names a file that cannot be read. Give the path of a PEM file.")

    def finish(self) -> Config:
        try:
            config = Config.model_validate(self._data)
        except ValidationError as error:
            for key, what in faults_of(error):
                self._fault(key, what)
        if self._faults:
            raise ConfigError("\n".join(self._faults.values()))
        return config

    def _author(self, key: Key) -> str:
        """Return who wrote ``key``, or the table that holds it."""
        for length in range(len(key), 0, -1):
            if key[:length] in self._authors:
                return self._authors[key[:length]]
        return self._file

    def _fault(self, key: Key, what: str) -> None:
        # The first fault of a key is the cause of those that follow.
        self._faults.setdefault(key, f"{self._author(key)}: {dotted(key) or 'all of it'} {what}")

    def _put(self, key: Key, value: Any, author: str) -> None:
        here: Any = self._data
        for name, following in pairwise(key):
            empty: Any = [] if isinstance(following, int) else {}
            if isinstance(here, list) and name == len(here):
                here.append(empty)
            here = here.setdefault(name, empty) if isinstance(here, dict) else here[name]
            if not isinstance(here, dict | list):
                return  # The file wrote a value where a table belongs, which the model will say.
        here[key[-1]] = value
        if author != self._file:
            self._authors[key] = author


def _texts(value: Any, key: Key = ()) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(below, (*key, name))


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Raises :exc:`ValueError` that says which variable is missing."""

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if match["literal"]:
            return match[0][1:]
        if name is None:
            raise ValueError("holds ${ that is not of the form ${NAME} or ${NAME:-default}. Write $${ for the signs.")
        if match["default"] is not None:
            return environ.get(name) or match["default"]
        if name not in environ:
            raise ValueError(f"needs the variable {name} of the environment. Set it, or write ${{{name}:-default}}.")
        return environ[name]

    return _VARIABLE.sub(replace, text)
