"""What the import linter does not see: the rules of the tree that are about files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
"""Lines. The aims are 300 and 40; these are where an exception ends."""

PURE = [
    *("app/streams/position.py", "app/streams/publication.py", "app/streams/merge.py", "app/streams/recovery.py"),
    *("app/streams/hub.py", "app/streams/listener.py", "app/streams/log.py"),
    *("app/generations/lifecycle.py", "app/generations/events.py", "app/generations/event_json.py"),
    "app/generations/receipt.py",
    "app/generations/formats",
    "app/ws/protocols",
    *("app/http/uploads/multipart.py", "app/http/uploads/sniffing.py", "app/http/uploads/inspector.py"),
    *("app/http/routes.py", "app/http/headers.py", "app/http/problems.py"),
    *("app/http/cache/conditions.py", "app/http/cache/directives.py", "app/http/cache/entry.py"),
    *("app/http/cache/keys.py", "app/http/cache/policy.py"),
    *("app/http/upstreams/balancing.py", "app/http/upstreams/breaker.py", "app/http/upstreams/health.py"),
    *("app/http/upstreams/hedging.py", "app/http/upstreams/retries.py"),
]
IMPURE = {"asyncio", "time", "socket", "os", "threading", "selectors", "ssl"}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Return the first part of every module that the file imports when it runs."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def pure_files() -> list[Path]:
    files = []
    for entry in PURE:
        path = ROOT / entry
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return files


@pytest.mark.parametrize("path", pure_files(), ids=name)
def test_the_domain_takes_bytes_and_the_time_as_arguments(path):
    assert not imports(path) & IMPURE


@pytest.mark.parametrize(("folder", "others"), [("services", "app"), ("loadtests", "app"), ("app", "services")])
def test_the_gateway_and_what_stands_beside_it_do_not_know_each_other(folder, others):
    # The demo alone runs all in one process.
    known = {name(path) for path in sources(folder) if imports(path) & {others, "loadtests"} - {folder}}
    assert all(file.startswith("app/demo/") for file in known)


def test_no_module_is_a_drawer_for_everything():
    forbidden = {"utils", "util", "helpers", "misc", "common"}
    assert not [name(path) for path in sources("app", "services", "loadtests") if path.stem in forbidden]


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how long a function is without the functions in it, which are read by themselves."""
    nested = [node for node in function.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    length = function.end_lineno - function.lineno + 1
    return length - sum(node.end_lineno - node.lineno + 1 for node in nested)


@pytest.mark.parametrize("path", sources("app"), ids=name)
def test_a_file_can_be_read_in_one_sitting(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert own_lines(node) <= LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("path", sources("app"), ids=name)
def test_a_module_says_what_it_is_for(path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))
