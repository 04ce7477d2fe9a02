"""The pages say what the code does, and hang together.

Their tables are those that the code would write; what they link to, name and list is there, and what is there is named.
"""

import ast
import inspect
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from app import config, errors
from app.config import load_config
from app.config.section import Section
from app.errors import TidegateError
from docs.generate import PAGES, fill

ROOT = Path(__file__).parents[1]
EVERY_PAGE = [ROOT / name for name in ("README.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

each_page = pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_are_those_of_the_code(name):
    page = PAGES[name].read_text()
    assert "<!-- table:" in page
    assert fill(page) == page, "run: make docs"


def sections():
    modules = [import_module(f"{config.__name__}.{module.name}") for module in iter_modules(config.__path__)]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Section) and value.__module__ == module.__name__
    ]


def test_every_setting_has_a_row_with_its_meaning():
    page = PAGES["configuration"].read_text()
    for section in sections():
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                continue
            holds_section = any(
                isinstance(kind, type) and issubclass(kind, Section)
                for kind in getattr(field.annotation, "__args__", ())
            )
            if not holds_section:
                assert re.search(rf"^\| `{name}` \| .+ \| .+ \| .{{8,}} \|$", page, re.MULTILINE), f"{section}.{name}"


def test_the_example_is_a_right_configuration(tmp_path):
    example = re.search(r"```toml\n(.*?)```", PAGES["configuration"].read_text(), re.DOTALL)[1]
    path = tmp_path / "gateway.toml"
    path.write_text(example)
    assert tomllib.loads(example)
    assert load_config(path, {"JWT_SECRET": "a-secret"}).routes[0].upstream == "chat"


def test_every_variable_named_on_the_page_is_a_setting():
    page = PAGES["configuration"].read_text()
    given = dict(re.findall(r"`(GATEWAY_[A-Z0-9_]+__[A-Z0-9_]+)=([^`]*)`", page))
    assert len(given) >= 5
    given.setdefault("GATEWAY_UPSTREAMS__CHAT__TARGETS", "http://h")
    given["GATEWAY_ROUTES__0__PATH"] = "/v1/*"
    load_config(None, given)


def tree(error):
    yield error
    for below in error.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


def test_every_error_is_drawn_in_the_tree_as_it_is():
    drawing = inspect.getdoc(errors).split("::", 1)[1]
    for error in tree(TidegateError):
        close = f" +{error.close_code}" if error.close_code else ""
        line = rf"\b{error.__name__} +{error.code} +{error.status}{close}$"
        assert re.search(line, drawing, re.MULTILINE), error.__name__


def test_error_codes_are_unique_and_close_codes_say_whether_to_come_back():
    every = list(tree(TidegateError))
    assert len({error.code for error in every}) == len(every)
    for error in every:
        if error.close_code is not None and error.close_code >= 4000:
            assert error.retryable == (error.close_code < 4500), error.__name__


def test_every_error_is_exported():
    names = {node.name for node in ast.parse(inspect.getsource(errors)).body if isinstance(node, ast.ClassDef)}
    assert names == set(errors.__all__)


def test_every_test_that_a_guarantee_names_exists():
    """``docs/guarantees.md`` names test modules by their path below ``tests``."""
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", (ROOT / "docs/guarantees.md").read_text()))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()] == []


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
    assert {f"docs/{page.name}" for page in EVERY_PAGE if page.parent.name == "docs"} <= linked


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


def test_the_map_of_the_code_names_each_folder():
    named = {name.rstrip("/") for name in re.findall(r"`([\w/]+/)`", ARCHITECTURE)}
    files = [file for top in ("app", "services", "loadtests") for file in (ROOT / top).rglob("*") if file.is_file()]
    parents = {file.parent.relative_to(ROOT) for file in files}
    folders = {str(folder) for folder in parents if not {"__pycache__", "migrations"} & {*folder.parts}}
    assert len(folders) > 50
    assert sorted(folders - named) == []


def test_all_that_the_map_names_is_there():
    whole = set(re.findall(r"`((?:app|services|loadtests|tests|deploy|k8s|docs)/[\w/.]*)`", ARCHITECTURE))
    assert len(whole) > 100
    assert sorted(name for name in whole if not (ROOT / name).exists()) == []
    short = set(re.findall(r"`((?!app/|services/|loadtests/|tests/|deploy/|k8s/|docs/)\w+/[\w/.]+)`", ARCHITECTURE))
    assert len(short) > 10
    for name in short:
        file = ROOT / "app" / name
        assert file.exists() or file.with_suffix(".py").is_file(), name
