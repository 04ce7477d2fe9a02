"""docs/systems.md names tests that exist, for systems that are presets."""

import ast
import re
from pathlib import Path

import pytest

from app.config import preset_names

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "systems.md").read_text()
NAMED = sorted(
    {name for row in re.findall(r"^\|.*\| (.*) \|$", PAGE, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)}
)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    place, _, function = name.partition("::")
    path = ROOT / "tests" / place
    assert path.exists()
    if function:
        nodes = ast.walk(ast.parse(path.read_text()))
        assert function in {it.name for it in nodes if isinstance(it, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_system_is_a_preset_and_every_line_names_a_test() -> None:
    assert NAMED
    assert set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE)) <= set(preset_names())
    for row in re.findall(r"^\| (?!what |--)(.+) \|$", PAGE, re.MULTILINE):
        assert re.search(r"`[\w/]+(\.py)?(::\w+)?`$", row), row
