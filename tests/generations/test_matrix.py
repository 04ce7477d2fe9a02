"""Which source reads which format: the table of the guide is that of the code, and what it names tries them."""

from __future__ import annotations

import re
from pathlib import Path

from app.config.jobs import JOB_FORMATS
from app.generations.formats import FORMATS, FRAME_DECODERS, POLL_DECODERS, STREAM_DECODERS

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "sources.md"


def rows() -> list[tuple[str, str, list[str]]]:
    """Return each row of the table: a source, a format, where it is tried."""
    table = PAGE.read_text().partition("| source | format | tried in |\n|---|---|---|\n")[2].partition("\n\n")[0]
    found = []
    for line in table.splitlines():
        source, formats, tried = (cell.strip() for cell in line.strip("|").split("|"))
        found += [(source.strip("`"), each, _names(tried)) for each in _names(formats)]
    return found


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_has_each_source_with_each_of_its_formats_once() -> None:
    answers = {("the answer", name) for name in (*FORMATS, "json-lines")}
    jobs = {(source, name) for source, formats in JOB_FORMATS.items() for name in formats}
    cells = [(source, name) for source, name, _ in rows()]
    assert len(cells) == len(set(cells))
    assert set(cells) == answers | jobs


def test_each_decoder_is_read_by_a_source() -> None:
    decoders = {*STREAM_DECODERS, *FRAME_DECODERS, *POLL_DECODERS}
    assert decoders <= {name for _, name, _ in rows()}


def test_the_tests_that_the_table_names_speak_of_the_format() -> None:
    for _, name, tried in rows():
        texts = [(TESTS / file).read_text() for file in tried]
        assert any(f'"{name}"' in text or name == "jobs" for text in texts), f"{tried} say nothing of {name}"
