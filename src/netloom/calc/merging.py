"""Merging: the tables of many nodes as one, made out of the last one by what has changed.

A table of which nothing has changed stays the very same object, so whoever goes by it has nothing to do; one in which something has
is made of the one before it (`model.edited`).  Of nodes nothing else is remembered, for tables for each of thousands would take more
memory than all the rest: who changes one says what its part was.

Where two say something under the same key the order decides who is heard, and nothing can be edited: then, and only as long as that is
so, all parts have to be put together anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any

from netloom.calc.tables import Tables
from netloom.model.edited import Edited

Part = dict[Any, Any]  # Any: each table has its own kinds of key and value

_LARGE = ("routes", "neighbours", "fdb", "tunnels", "senders", "uses")
_SMALL = ("links", "addresses", "sysctls", "shaping")
_LISTS = ("lasting", "left", "tunnelled", "problems")
assert {*_LARGE, *_SMALL, *_LISTS, "vteps", "bgp"} == {field.name for field in fields(Tables)}


class Merged:
    """`whole`: all together.  It is not to be changed in place, any more than what it is made of."""

    def __init__(self) -> None:
        self.whole = Tables()
        self._base = Tables()
        """What is there whoever the others are."""
        self._noted: dict[str, Tables] = {}
        """Parts with anything in tables that are not edited."""
        self._apart = True
        """Whether no key of a large table is said twice."""

    def anew(self, base: Tables, parts: Iterable[tuple[str, Tables]]) -> None:
        """`parts` in the order of their names."""
        whole, self._base, self._noted = Tables(), base, {}
        sizes: Counter[str] = Counter()
        for name, part in chain((("", base),), parts):
            whole.add(part)
            sizes.update({table: len(getattr(part, table)) for table in _LARGE})
            if part is not base and _is_noted(part):
                self._noted[name] = part
        self._apart = all(len(getattr(whole, table)) == sizes[table] for table in _LARGE)
        large: dict[str, Any] = {table: Edited.of({}, getattr(whole, table)) for table in _LARGE}  # Any: as above
        self.whole = replace(whole, **large)

    def edit(self, base: Tables, changes: Mapping[str, tuple[Tables, Tables]]) -> bool:
        """By name, what was a node's part, and what is.  Whether that could be done; else it has to be done anew."""
        if not self._apart:
            return False
        pairs = [*changes.values()] if base is self._base else [(self._base, base), *changes.values()]
        tables: dict[str, Any] = {}  # Any: as above
        for name in _LARGE:
            sides = [(getattr(old, name), getattr(new, name)) for old, new in pairs]
            if any(old != new for old, new in sides):
                if (edited := _edited(getattr(self.whole, name), sides)) is None:
                    return False
                tables[name] = edited
        noted = {name for name, pair in changes.items() if any(map(_is_noted, pair))}
        if noted or base is not self._base:
            self._noted = {name: part for name, part in self._noted.items() if name not in noted}
            self._noted |= {name: changes[name][1] for name in noted if _is_noted(changes[name][1])}
            tables |= _put_together(base, [part for _, part in sorted(self._noted.items())])
        if tables:
            self.whole = replace(self.whole, **tables)
        self._base = base
        return True


def _is_noted(part: Tables) -> bool:
    return any(getattr(part, name) for name in (*_SMALL, *_LISTS))


def _edited(before: Part, sides: Iterable[tuple[Part, Part]]) -> Mapping[Any, Any] | None:  # Any: as above
    """None: some key would be said twice."""
    put = {key: value for old, new in sides for key, value in new.items() if key not in old or old[key] != value}
    olds, news = (set().union(*side) for side in zip(*sides, strict=True))
    after = Edited.of(before, put, olds - news)
    lengths = [sum(map(len, side)) for side in zip(*sides, strict=True)]
    return after if len(after) - len(before) == lengths[1] - lengths[0] else None


def _put_together(base: Tables, parts: Iterable[Tables]) -> dict[str, Any]:  # Any: as above
    whole = Tables()
    nothing: dict[str, Any] = {name: {} for name in _LARGE}  # Any: as above
    for part in (base, *parts):
        whole.add(replace(part, **nothing))
    return {name: getattr(whole, name) for name in (*_SMALL, *_LISTS)}
