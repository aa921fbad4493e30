from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.errors import ConfigError
from netloom.model.documents import MAX_BYTES, FieldPath, read

texts = st.text(max_size=50)  # YAML reads no name of more than 1024 characters
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


def values(text: str) -> list[object]:
    return [document.value for document in read(text.encode(), "f.yaml")]


@given(st.dictionaries(texts, plain, max_size=3) | st.lists(plain, max_size=3), st.sampled_from([None, 2, "\t"]))
def test_json_is_read_as_json_says(value: object, indent: int | str | None) -> None:
    assert values(json.dumps(value, indent=indent)) == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("~", None),
        ("'12'", "12"),
        ('"true"', "true"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("012", "012"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("10:20", "10:20"),
        ("2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("=", "="),
    ],
)
def test_a_plain_word_is_what_it_looks_like(text: str, value: object) -> None:
    assert values(f"a: {text}") == [{"a": value}]


def test_documents_without_content_are_passed_over() -> None:
    assert values("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 2),
        (("a",), 2),
        (("a", "b"), 3),
        (("a", "b", 1), 5),
        (("c",), 6),
        (("c", "d"), 6),
        (("c", "no"), 6),
        (("a", "b", 9), 3),
        (("x", "y"), 2),
    ],
)
def test_each_field_has_its_line_and_what_is_missing_that_of_its_holder(path: FieldPath, line: int) -> None:
    (document,) = read(b"# a comment\na:\n  b:\n  - 1\n  - 2\nc: {d: 1}\n", "f")
    assert document.line(path) == line


def test_lines_go_on_in_the_second_document_and_in_parts_of_it() -> None:
    _, second = read(b"a: 1\n---\nitems:\n- x: 1\n- x: 2\n", "f")
    assert second.within(("items", 1), {"x": 2}).line(("x",)) == 5


@pytest.mark.parametrize(
    ("data", "where", "reason"),
    [
        (b"a: 1\nb: 2\na: 3\n", "f:3", "'a' is here twice"),
        (b"a:\n  b: 1\n  'b': 2\n", "f:3", "'b' is here twice"),
        (b"a: &x 1\n", "f:1", "anchors"),
        (b"a: 1\nb: *x\n", "f:2", "aliases"),
        (b"a: !!python/object/apply:os.system [ls]\n", "f:1", "tags"),
        (b"a: !x 1\n", "f:1", "tags"),
        (b"? [a]\n: b\n", "f:1", "the name of a field must be text"),
        (b"a: [1\n", "f:2", "is not YAML"),
        (b"a: b: c\n", "f:1", "is not YAML"),
        (b"a: \x00\n", "f:1", "is not YAML"),
        (b"a\n\xff", "f:2", "is not UTF-8"),
        (b"a: " + b"9" * 21, "f:1", "too large a number"),
        (b"x" * (MAX_BYTES + 1), "f", "is longer than"),
    ],
)
def test_what_is_refused_is_named_with_its_line(data: bytes, where: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(data, "f")
    assert refused.value.where == where
    assert reason in str(refused.value)


def laughs(levels: int) -> bytes:
    lines = ['a0: &a0 ["lol"]'] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    "bomb",
    [
        laughs(9),
        b"a: &a [*a]",
        b"[" * 500_000,
        b"- " * 500_000,
        b'{"a":' * 200_000,
        b"? " * 500_000,
        b"a: {<<: *x}",
        b"'" * MAX_BYTES,
        b"a: " * 300_000,
        b"- [a, a]\n" * 100_000,
    ],
    ids=["laughs", "itself", "brackets", "dashes", "braces", "questions", "merge", "quotes", "colons", "crowd"],
)
def test_a_bomb_does_not_go_off(bomb: bytes) -> None:
    begun = time.process_time()
    try:
        size = sum(len(str(document.value)) for document in read(bomb, "f"))
    except ConfigError:
        size = 0
    assert size <= MAX_BYTES
    assert time.process_time() - begun < 20  # a tenth of a second; it would be hours


@given(st.binary(max_size=200) | st.text("-:[]{}&*!|>'\"%@`?,# \n\tab1", max_size=60).map(str.encode))
def test_no_bytes_are_worse_than_refused(data: bytes) -> None:
    try:
        read(data, "f")
    except ConfigError as e:
        assert str(e.where).startswith("f")
