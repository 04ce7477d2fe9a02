"""Variables of the environment inside texts. Pure.

``${NAME}`` is the variable's value, ``${NAME:-default}`` the default where it is missing or empty, and
``${if NAME then text else other}`` one of two texts by whether the variable is on: present, and none of ``false``,
``no``, ``off``, ``0`` and the empty text (``${if NAME:-true then text}`` is on where it is missing). ``$${`` stands for
``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["expanded", "variables_in"]

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_VARIABLE = re.compile(
    rf"""\$(?P<literal>\$)?\{{(?:
        (?: if\ +(?P<switch>{_NAME})(?::-(?P<assumed>[^}}\ ]*))?\ +then\ (?P<yes>[^}}]*?)(?:\ else\ (?P<no>[^}}]*?))?\ *
          | (?P<name>{_NAME})(?::-(?P<default>[^}}]*))?
        )\}})?""",
    re.VERBOSE,
)
_OFF = frozenset({"", "0", "false", "no", "off"})


def variables_in(text: str) -> set[str]:
    """Return the names of the variables that ``text`` looks at."""
    matches = [match for match in _VARIABLE.finditer(text) if not match["literal"]]
    return {name for match in matches if (name := match["name"] or match["switch"])}


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """Return ``text`` with what its variables say.

    Raises :exc:`ValueError` for a variable that is missing and for what is of none of the forms.
    """

    def replace(match: re.Match[str]) -> str:
        if match["literal"]:
            return match[0][1:]
        if match["switch"]:
            value = environ.get(match["switch"]) or match["assumed"] or ""
            return (match["no"] or "") if value.strip().lower() in _OFF else match["yes"]
        name = match["name"]
        if name is None:
            raise ValueError("holds ${ that is not of the form ${NAME} or ${NAME:-default}. Write $${ for the signs.")
        if match["default"] is not None:
            return environ.get(name) or match["default"]
        if name not in environ:
            raise ValueError(f"needs the variable {name} of the environment. Set it, or write ${{{name}:-default}}.")
        return environ[name]

    return _VARIABLE.sub(replace, text)
