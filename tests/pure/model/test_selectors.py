from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.selectors import parse_selector

KEYS, VALUES = ("app", "example.org/tier", "in", "has"), ("web", "", "a b", "not in")
label_sets = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))


@dataclass(frozen=True)
class Case:
    """A selector as text, and what it means, said by another program: plain Python on the tree that was drawn."""

    text: str
    means: Callable[[dict[str, str]], bool]


def quoted(value: str) -> str:
    return f"'{value}'"


def listed(values: list[str]) -> str:
    return "{" + ", ".join(map(quoted, values)) + "}"


keys, values = st.sampled_from(KEYS[:2]), st.sampled_from(VALUES)
some_values = st.lists(values, min_size=1, max_size=3)
terms = st.one_of(
    st.just(Case("all()", lambda labels: True)),
    st.builds(lambda k: Case(f"has({k})", lambda labels: k in labels), keys),
    st.builds(lambda k, v: Case(f"{k} == {quoted(v)}", lambda labels: k in labels and labels[k] == v), keys, values),
    st.builds(lambda k, v: Case(f'{k}!="{v}"', lambda labels: k not in labels or labels[k] != v), keys, values),
    st.builds(lambda k, vs: Case(f"{k} in {listed(vs)}", lambda labels: k in labels and labels[k] in vs), keys, some_values),
    st.builds(
        lambda k, vs: Case(f"{k} not in {listed(vs)}", lambda labels: k not in labels or labels[k] not in vs), keys, some_values
    ),
)


def compound(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    return st.one_of(
        st.builds(lambda a: Case(f"!({a.text})", lambda labels: not a.means(labels)), inner),
        st.builds(
            lambda a, b: Case(f"({a.text}) && ({b.text})", lambda labels: a.means(labels) and b.means(labels)), inner, inner
        ),
        st.builds(
            lambda a, b: Case(f"({a.text})||({b.text})", lambda labels: a.means(labels) or b.means(labels)), inner, inner
        ),
    )


@given(st.recursive(terms, compound, max_leaves=6), label_sets)
def test_a_selector_selects_what_it_says(case: Case, labels: dict[str, str]) -> None:
    assert parse_selector(case.text)(labels) == case.means(labels)


@given(terms, terms, terms, label_sets)
def test_and_binds_tighter_than_or(a: Case, b: Case, c: Case, labels: dict[str, str]) -> None:
    text = f"{a.text} || {b.text} && !{c.text}"
    assert parse_selector(text)(labels) == (a.means(labels) or (b.means(labels) and not c.means(labels)))


@pytest.mark.parametrize("text", ["", "  ", "all()"])
def test_an_empty_selector_selects_everything(text: str) -> None:
    assert parse_selector(text)({})


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a =",
        "a = 'b'",
        "a == b",
        "a == 'b",
        "has(",
        "has()",
        "all(",
        "(all()",
        "all())",
        "a in {}",
        "a in {'b'",
        "a in 'b'",
        "!",
        "&&",
        "a == 'b' &&",
        "a == 'b' c == 'd'",
        "a not {'b'}",
        "$(reboot)",
        "a == 'b';",
        "\x00",
    ],
)
def test_what_is_no_selector_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="selector"):
        parse_selector(text)


@given(st.text("ab()!&|='\"{}, in", max_size=40))
def test_no_text_is_worse_than_refused(text: str) -> None:
    with suppress(ValueError):
        assert parse_selector(text)({}) in (True, False)


@pytest.mark.parametrize("text", ["!" * 2000, "(" * 2000, "(" * 33 + "all()" + ")" * 33])
def test_nesting_has_an_end(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        parse_selector(text)


def test_length_has_an_end() -> None:
    with pytest.raises(ValueError, match="longer than"):
        parse_selector("all() || " * 1000 + "all()")
