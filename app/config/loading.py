"""Reading the configuration: flags over the environment over the file over the preset over the defaults.

``${…}`` inside the texts of a file or preset comes from the environment (:mod:`app.config.variables`), and every value
can also be set as ``GATEWAY_<TABLE>__<KEY>``. Whatever is wrong becomes one :exc:`~app.errors.ConfigError` with a line
for each fault: where it was written, the key, what is wrong, the cure. A line never shows a value that is a secret.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.config.environment import UnknownVariable, key_of
from app.config.faults import faults_of
from app.config.model import Config
from app.config.overlay import overlaid
from app.config.presets import preset_file
from app.config.schema import Key, dotted
from app.config.variables import expanded, variables_in
from app.errors import ConfigError

__all__ = ["load_config"]

_TLS_FILES = frozenset({"tls_ca", "tls_certificate", "tls_key"})


def load_config(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    preset: str | None = None,
) -> Config:
    """Return the configuration of the file ``path`` (None for none) with what lies over it, and below it ``preset``.

    ``overrides`` are the command line's, by dotted key (``{"server.port": 9000}``) or nested; a value of None stands
    for a flag that was not given. Raises :exc:`~app.errors.ConfigError`.
    """
    file = "the configuration" if path is None else str(path)
    if preset is None:
        draft = _Draft(_read(path), file)
    else:
        draft = _Draft(_read(preset_file(preset)), f"the preset {preset}")
        draft.overlay_file(_read(path), file, environ)
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
        self._files = {file}
        """In whose texts variables are expanded."""
        self._authors: dict[Key, str] = {}
        """Of the keys that did not come from the file."""
        self._faults: dict[Key, str] = {}

    def overlay_file(self, data: Mapping[str, Any], file: str, environ: Mapping[str, str], above: Key = ()) -> None:
        """Put another file's values over these: table by table, and what is no table whole, but for routes."""
        self._files.add(file)
        for name, value in data.items():
            key = (*above, name)
            if key == ("routes",) and isinstance(value, list):
                self._overlay_routes(value, file, environ)
            elif isinstance(value, dict):
                self.overlay_file(value, file, environ, key)
            else:
                self._put(key, value, file)

    def _overlay_routes(self, routes: list[Any], file: str, environ: Mapping[str, str]) -> None:
        joined = self._data["routes"] = overlaid(self._data.get("routes", []), routes, environ)
        for index, route in enumerate(joined):
            if any(route is mine for mine in routes):
                self._authors["routes", index] = file

    def overlay_environment(self, environ: Mapping[str, str]) -> None:
        own = {name for _, text in _texts(self._data) for name in variables_in(text)}
        for variable in sorted(environ):
            try:
                key = key_of(variable, environ[variable], self._data)
            except UnknownVariable as error:
                if variable not in own:  # The file says itself what its variables are for.
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
        """Put the environment's values for ``${…}`` into the texts that files wrote.

        What comes out empty is no entry of its list.
        """
        empty: list[Key] = []
        for key, text in list(_texts(self._data)):
            if "${" not in text or self._author(key) not in self._files:
                continue
            try:
                value = expanded(text, environ)
            except ValueError as error:
                self._fault(key, str(error))
                continue
            self._put(key, value, self._author(key))
            if not value and isinstance(key[-1], int):
                empty.append(key)
        for *above, index in reversed(empty):
            entries: Any = self._data
            for name in above:
                entries = entries[name]
            del entries[index]

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
