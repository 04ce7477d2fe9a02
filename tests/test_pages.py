"""The pages hang together: what they link to, name and list is there, and what is there is named."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """Return the page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: Path) -> set[str]:
    """Return what links may name in the page, as GitHub makes it of headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(page), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if not number else f"{slug}-{number}" for slug, last in found.items() for number in range(last + 1)}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [to for to in re.findall(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)", text) if not re.match(r"[a-z]+:", to)]


@each_page
def test_a_link_leads_to_a_file_and_to_a_heading_in_it(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_links_are_found_where_they_are(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A `b` [c](d.md)!\n## A\n## A\nsee [x](y.md#z), `[no](no.md)` and\n```\n# no\n[no](no.md)\n```\n")
    assert links(page) == ["d.md", "y.md#z"]
    assert anchors(page) == {"a-b-c", "a", "a-1"}


def named_tests(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"`(?:tests/)?([\w/]+\.py)::(\w+)`", page.read_text())


def test_guarantees_and_systems_name_the_tests_that_prove_them():
    assert len(named_tests(ROOT / "docs/guarantees.md")) > 40
    assert len(named_tests(ROOT / "docs/systems.md")) > 40


@each_page
def test_a_test_that_a_page_names_is_there(page):
    for module, name in named_tests(page):
        tree = ast.parse((ROOT / "tests" / module).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{module} has no {name}"


@each_page
def test_a_command_of_make_that_a_page_names_is_there(page):
    targets = set(re.findall(r"[\w-]+", " ".join(re.findall(r"^([\w -]+):(?!=)", MAKEFILE, re.MULTILINE))))
    assert set(re.findall(r"`make ([a-z][a-z-]*)", page.read_text())) <= targets


def test_make_help_tells_every_command():
    (phony,) = re.findall(r"^\.PHONY:((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    told = set(re.findall(r"[\w-]+", " ".join(re.findall(r'@echo "(.*)"', MAKEFILE))))
    assert set(phony.replace("\\", "").split()) - {"help"} <= told


def test_the_readme_leads_to_every_page():
    linked = set(links(ROOT / "README.md"))
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


def test_the_readme_says_what_each_library_is_for():
    table = README.partition("## Libraries")[2]
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    for name in {re.split(r"[\[<>=]", entry)[0] for group in groups for entry in group} - {"tidegate"}:
        assert name.startswith("types-") or re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", table), name


def test_every_library_is_pinned():
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    asked = {re.split(r"[\[<>=]", entry)[0] for group in groups for entry in group} - {"tidegate"}
    assert sorted(asked - pinned) == []


def test_decisions_are_numbered_one_by_one():
    numbers = [
        int(number) for number in re.findall(r"^(\d+)\. ", (ROOT / "docs/decisions.md").read_text(), re.MULTILINE)
    ]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_layers_on_the_page_are_those_that_are_checked():
    (drawn,) = re.findall(r"^cli  >.*$", ARCHITECTURE, re.MULTILINE)
    (checked,) = [
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract.get("containers") == ["app"]
    ]
    assert [layer.strip() for layer in drawn.split("  >  ")] == checked


def tracked_folders() -> set[str]:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {str(folder) for file in files.splitlines() for folder in Path(file).parents} - {"."}


def test_the_map_of_the_code_names_each_folder():
    named = {name.rstrip("/") for name in re.findall(r"`([\w/]+/)`", ARCHITECTURE)}
    folders = {
        folder
        for folder in tracked_folders()
        if folder.split("/")[0] in {"app", "services", "loadtests"} and "migrations" not in folder.split("/")
    }
    assert sorted(folders - named) == []
    top = {folder for folder in tracked_folders() if "/" not in folder and not folder.startswith(".")}
    assert sorted(top - {name.split("/")[0] for name in named}) == []


def test_all_that_the_map_names_is_there():
    whole = set(re.findall(r"`((?:app|services|loadtests|tests|deploy|k8s|docs)/[\w/.]*)`", ARCHITECTURE))
    assert len(whole) > 100
    assert sorted(name for name in whole if not (ROOT / name).exists()) == []
    short = set(re.findall(r"`((?!app/|services/|loadtests/|tests/|deploy/|k8s/|docs/)\w+/[\w/.]+)`", ARCHITECTURE))
    assert len(short) > 10
    for name in short:
        file = ROOT / "app" / name
        assert file.exists() or file.with_suffix(".py").is_file(), name
