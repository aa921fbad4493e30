"""Merging: tables of many groups of nodes as one, made out of the last one by what has changed.

A table of which nothing has changed stays the very same object, so whoever goes by it has nothing to do; one in which something has
is made of the one before it (`model.edited`).  Two groups that say something under the same key, or one that says what the base says:
then the order decides who is heard, and everything is put together anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from netloom.calc.tables import Tables
from netloom.model.edited import Edited

Part = dict[Any, Any]  # Any: each table has its own kinds of key and value

_LARGE = ("routes", "neighbours", "fdb", "tunnels", "senders", "uses")
_SMALL = ("links", "addresses", "sysctls", "shaping")
_LISTS = ("lasting", "left", "tunnelled", "problems")
assert {*_LARGE, *_SMALL, *_LISTS, "bgp"} == {field.name for field in fields(Tables)}


class Merged:
    """Remembers what was put together last."""

    def __init__(self) -> None:
        self._base: Tables | None = None
        self._groups: dict[int, Tables] = {}
        self._whole = Tables()

    def of(self, base: Tables, groups: Mapping[int, Tables]) -> Tables:
        """Not to be changed in place, any more than what it is made of."""
        changed = [key for key, part in groups.items() if self._groups.get(key) is not part]
        gone = [key for key in self._groups if key not in groups]
        if changed or gone or base is not self._base:
            edited = self._edited(groups, [*changed, *gone]) if base is self._base else None
            self._whole = edited if edited is not None else _whole(base, groups)
            self._base, self._groups = base, dict(groups)
        return self._whole

    def _edited(self, groups: Mapping[int, Tables], changed: list[int]) -> Tables | None:
        """None: it has to be done anew."""
        if len(changed) > len(groups) // 4:
            return None
        pairs = [(self._groups.get(key, _NOTHING), groups.get(key, _NOTHING)) for key in changed]
        if any(getattr(part, name) for pair in pairs for part in pair for name in (*_SMALL, *_LISTS)):
            return None
        tables: dict[str, Any] = {}  # Any: as above
        for name in _LARGE:
            before: Part = getattr(self._whole, name)
            sides = [(getattr(old, name), getattr(new, name)) for old, new in pairs]
            if all(old == new for old, new in sides):
                continue
            put = {key: value for old, new in sides for key, value in new.items() if key not in old or old[key] != value}
            olds, news = (set().union(*side) for side in zip(*sides, strict=True))
            after = Edited.of(before, put, olds - news)
            lengths = [sum(map(len, side)) for side in zip(*sides, strict=True)]
            if len(after) - len(before) != lengths[1] - lengths[0] or not self._is_apart(name):
                return None
            tables[name] = after
        return replace(self._whole, **tables)

    def _is_apart(self, name: str) -> bool:
        """Whether no key of that table is said twice."""
        assert self._base is not None
        parts = sum(len(getattr(part, name)) for part in self._groups.values())
        return len(getattr(self._whole, name)) == parts + len(getattr(self._base, name))


_NOTHING = Tables()


def _whole(base: Tables, groups: Mapping[int, Tables]) -> Tables:
    tables = Tables()
    for part in (base, *(groups[key] for key in sorted(groups))):
        tables.add(part)
    for name in _LARGE:
        setattr(tables, name, Edited.of(getattr(tables, name), {}))
    return tables
