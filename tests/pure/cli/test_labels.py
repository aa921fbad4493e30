from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.cli.labels import parse
from netloom.errors import ConfigError


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a=", {"a": ""}, True),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("a", {}, False),
        ("!a", {}, True),
        ("! a", {"a": "b"}, False),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c)", {}, False),
        ("a notin (b)", {}, True),
        ("a notin (b)", {"a": "b"}, False),
        ("example.org/a=b, c , !d", {"example.org/a": "b", "c": ""}, True),
        ("a=b,c=d", {"a": "b"}, False),
        ("in in (in)", {"in": "in"}, True),
    ],
)
def test_a_selector_means_what_it_means_to_kubectl(selector: str, labels: dict[str, str], selected: bool) -> None:
    assert parse(selector)(labels) is selected


@pytest.mark.parametrize("selector", [",", "a,", "a=b=c", "a in b", "a in (b", "=b", "a b", "(a)", "a=b c", "a in (b) c"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(ConfigError, match="is no label selector"):
        parse(selector)


@given(st.text("ab=!,() in", max_size=20), st.dictionaries(st.sampled_from("ab"), st.sampled_from("ab")))
def test_no_text_is_worse_than_refused(text: str, labels: dict[str, str]) -> None:
    try:
        assert parse(text)(labels) in (True, False)
    except ConfigError as e:
        assert e.hint
