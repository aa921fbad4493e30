"""Label selectors in Calico's language: `all()`, `has(k)`, `k == 'v'`, `k in {'a', 'b'}`, `!`, `&&`, `||`, parentheses.

`parse_selector(text)` gives a function from labels to bool; a text is parsed once and kept.  A recursive descent over
tokens, one function per level of precedence: or, and, not, term.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from netloom.model.showing import shown

Selector = Callable[[Mapping[str, str]], bool]

_MAX_LENGTH = 4096
_MAX_DEPTH = 32
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*"|'[^']*')
          | (?P<op>&&|\|\||==|!=|[!(){},])
          | (?P<word>[A-Za-z0-9_./-]+))""",
    re.VERBOSE,
)


@lru_cache(maxsize=1024)
def parse_selector(text: str) -> Selector:
    """Raises ValueError that shows the place.  An empty text selects everything, as in Calico."""
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"selector is longer than {_MAX_LENGTH} characters")
    parser = _Parser(text)
    if not parser.tokens:
        return _everything
    selector = parser.disjunction()
    if parser.here is not None:
        raise parser.error("expected '&&', '||' or the end")
    return selector


def _everything(labels: Mapping[str, str]) -> bool:
    return True


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.position, self.depth = text, _tokens(text), 0, 0

    @property
    def here(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def error(self, expected: str) -> ValueError:
        found = "the end" if self.here is None else self.here
        return ValueError(f"selector {shown(self.text)}: {expected}, found {found}")

    def take(self, token: str) -> bool:
        if self.here == token:
            self.position += 1
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise self.error(f"expected '{token}'")

    def disjunction(self) -> Selector:
        parts = [self.conjunction()]
        while self.take("||"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else lambda labels: any(part(labels) for part in parts)

    def conjunction(self) -> Selector:
        parts = [self.negation()]
        while self.take("&&"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else lambda labels: all(part(labels) for part in parts)

    def negation(self) -> Selector:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError(f"selector {shown(self.text[:60])}… is nested deeper than {_MAX_DEPTH}")
        try:
            if self.take("!"):
                inner = self.negation()
                return lambda labels: not inner(labels)
            if self.take("("):
                inner = self.disjunction()
                self.expect(")")
                return inner
            return self.term()
        finally:
            self.depth -= 1

    def term(self) -> Selector:
        key = self.word("a label, 'all()', 'has(...)' or '('")
        if key == "all" and self.take("("):
            self.expect(")")
            return _everything
        if key == "has" and self.take("("):
            wanted = self.word("a label")
            self.expect(")")
            return lambda labels: wanted in labels
        if self.take("=="):
            value = self.value()
            return lambda labels: labels.get(key) == value
        if self.take("!="):
            value = self.value()
            return lambda labels: labels.get(key) != value
        inside = self.take("in")
        if not inside:
            if not self.take("not"):
                raise self.error("expected '==', '!=', 'in' or 'not in'")
            self.expect("in")
        values = self.values()
        return (lambda labels: labels.get(key) in values) if inside else (lambda labels: labels.get(key) not in values)

    def word(self, expected: str) -> str:
        token = self.here
        if token is None or not (token[0].isalnum() or token[0] in "_./-"):
            raise self.error(f"expected {expected}")
        self.position += 1
        return token

    def value(self) -> str:
        token = self.here
        if token is None or token[0] not in "\"'":
            raise self.error("expected a quoted value")
        self.position += 1
        return token[1:-1]

    def values(self) -> frozenset[str]:
        self.expect("{")
        found = [self.value()]
        while self.take(","):
            found.append(self.value())
        self.expect("}")
        return frozenset(found)


def _tokens(text: str) -> list[str]:
    found, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if not match:
            raise ValueError(f"selector {shown(text)}: {shown(text[position:].lstrip()[0])} makes no sense here")
        found.append(match.group(match.lastgroup or 0))
        position = match.end()
    return found
