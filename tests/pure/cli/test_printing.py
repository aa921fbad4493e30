from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from netloom.cli.get import document
from netloom.cli.printing import Table, ago, cell, clean, table, to_json, to_yaml
from netloom.model.manifest import read
from netloom.model.resources import AnyResource, Encapsulation
from tests.pure.model import strategies

texts = st.text()


@given(texts)
def test_what_is_shown_can_be_shown(text: str) -> None:
    assert clean(text).isprintable()
    assert clean(text) == text or not text.isprintable()


@given(st.dictionaries(texts, texts))
def test_json_and_yaml_hold_the_value_and_no_control_characters(value: dict[str, str]) -> None:
    assert json.loads(to_json(value)) == yaml.safe_load(to_yaml(value)) == value
    for text in (to_json(value), to_yaml(value)):
        assert text.replace("\n", "").isprintable()


@given(strategies.resources)
def test_every_resource_can_be_read_back_from_what_is_printed(resource: AnyResource) -> None:
    for text in (to_json(document(resource)), to_yaml(document(resource))):
        found = read([("printed", text.encode())])
        assert found.errors == ()
        assert [item.resource for item in found.items] == [resource]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ((), "-"),
        ({}, "-"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        (("a", "b"), "a,b"),
        (Encapsulation.NONE, "None"),
        ({"b": "1", "a": ""}, "a=,b=1"),
        ("\x1b[0m", "\\x1b[0m"),
    ],
)
def test_a_cell_is_short_and_says_something(value: object, text: str) -> None:
    assert cell(value) == text


@given(st.lists(st.lists(st.text(st.characters(categories=["Ll"]), max_size=30), min_size=2, max_size=2)))
def test_a_table_is_never_cut_and_every_column_starts_where_its_header_does(rows: list[list[str]]) -> None:
    first, *lines = table(("NAME", "NODE"), rows).splitlines()
    start = first.index("NODE")
    assert [[line[:start].strip(), line[start:].strip()] for line in lines] == [[cell(c) for c in row] for row in rows]


def test_a_table_that_goes_on_keeps_its_columns() -> None:
    lines = Table(("A", "B"))
    assert lines.lines([("long one", 1)]) == ["A          B", "long one   1"]
    assert lines.lines([("x", 2)]) == ["x          2"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h0m"),
        (90_000, "25h0m"),
        (4 * 86400 + 3 * 3600, "4d3h"),
    ],
)
def test_an_age_is_as_long_as_kubectls(seconds: int, text: str) -> None:
    now = datetime.now(UTC)
    assert ago(now - timedelta(seconds=seconds), now) == text
