"""Lines of any service: what is found in one is what a plain reading of each path finds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.generations.formats.answer import Answer
from app.generations.formats.json_lines import FIELDS, JsonLinesReader

NAMES = st.sampled_from(["text", "usage", "progress", "file", "0", "1", "01", "a", "", "done", "choices"])
PATHS = st.builds(
    lambda steps, wanted: ".".join(steps) + wanted,
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["", "", "=", "=x"]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**64)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "x", "http://a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


class Asked(JsonLinesReader):
    """Notes what a line was found to say."""

    found: dict[str, Any]

    def _show(self, found: Any, answer: Answer) -> None:
        self.found = dict(found)


def plainly(path: str, value: Any) -> Any:
    path, equals, wanted = path.partition("=")
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step if step != "01" else "1")  # The index 1, as any number.
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return (True if value == wanted and isinstance(value, str) else None) if equals else value


@settings(max_examples=300)
@given(line=st.dictionaries(NAMES, VALUES, max_size=5), more=st.dictionaries(st.sampled_from(sorted(FIELDS)), PATHS))
def test_what_a_line_says_is_what_stands_at_the_paths(line: dict[str, Any], more: dict[str, str]) -> None:
    fields = {**FIELDS, **more}
    expected = {
        name: thing
        for name, path in fields.items()
        if not path.startswith("01") and (thing := plainly(path, line)) is not None
    }
    reader, answer = Asked({name: path for name, path in fields.items() if not path.startswith("01")}), Answer()
    reader.found = {}
    reader.read("", json.loads(json.dumps(line)), answer)
    assert reader.found == expected
    assert answer.unknown == (not expected)
