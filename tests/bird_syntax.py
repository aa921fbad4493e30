"""A bird.conf as a tree: statements of tokens, and blocks of statements; enough of BIRD's lexer to say where a string, a comment and a
block end.  So a test can say that a value has become a token and nothing else."""

from __future__ import annotations

import re
from typing import TypeAlias

Tree: TypeAlias = "tuple[str | Tree, ...]"

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\n]+)
    | (?P<comment>\#[^\n]*\n)
    | (?P<string>"[^"\n]*")
    | (?P<word>[A-Za-z0-9_.:/]+)
    | (?P<mark>[][={}()<>!~,;+*&|-])
    """,
    re.VERBOSE,
)
_INCLUDE = re.compile(r'^[ \t]*include[ \t]*"', re.MULTILINE)


def tokens(text: str) -> list[str]:
    """Raises AssertionError for what BIRD's lexer would not take, or would take for an `include`."""
    assert not _INCLUDE.search(text), "an include"
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match, f"no token: {text[position : position + 40]!r}"
        if match.lastgroup not in ("space", "comment"):
            found.append(match[0])
        position = match.end()
    return found


def tree(text: str) -> Tree:
    stack: list[list[str | Tree]] = [[]]
    for token in tokens(text):
        if token == "{":
            stack.append([])
        elif token == "}":
            inner = tuple(stack.pop())
            assert stack, "a brace too many"
            stack[-1].append(inner)
        else:
            stack[-1].append(token)
    assert len(stack) == 1, "a brace too few"
    return tuple(stack[0])


def shape(found: Tree) -> Tree:
    """The tree with every value, be it a number, an address or a string, as `?`: what a hostile value must not change."""
    return tuple(
        shape(each) if isinstance(each, tuple) else "?" if each[0] in '"0123456789' or ":" in each else each for each in found
    )
