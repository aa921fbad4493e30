"""docs/tutorial.md is true: each command in it does what the page shows."""

from __future__ import annotations

import pytest

from tests.tutorial import PAGE, Reader, Section, sections

SECTIONS = sections(PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reader() -> Reader:
    """Has read the page from top to bottom."""
    reader = Reader()
    reader.read(step for section in SECTIONS for step in section.steps)
    return reader


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_what_the_page_shows_is_what_comes_out(section: Section, reader: Reader) -> None:
    assert [reader.difference(step) for step in section.steps if not reader.agrees(step)] == []
