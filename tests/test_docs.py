"""The pages say what the code does: their tables are those that the code would write."""

import ast
import inspect
import re
import tomllib
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
