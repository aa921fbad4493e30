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
assert {*_LARGE, *_SMALL, *_LISTS, "vteps", "bgp"} == {field.name for field in fields(Tables)}


class Merged:
    """Remembers what was put together last."""

    def __init__(self) -> None:
        self._base: Tables | None = None
        self._groups: dict[int, Tables] = {}
        self._whole = Tables()
        self._apart: Mapping[str, bool] = {}
        """Of each large table, whether no key is said twice."""

    def of(self, base: Tables, changed: Mapping[int, Tables]) -> Tables:
        """`changed`: groups that may be others than the last time.  The result is not to be changed in place, any more than what it is
        made of."""
        changed = {key: part for key, part in changed.items() if self._groups.get(key) is not part}
        if changed or base is not self._base:
            edited = self._edited(changed) if base is self._base else None
            self._base, self._groups = base, self._groups | changed
            self._whole = edited if edited is not None else self._anew(base)
        return self._whole

    def _edited(self, changed: Mapping[int, Tables]) -> Tables | None:
        """None: it has to be done anew."""
        if len(changed) > _FEW:
            return None
        pairs = [(self._groups.get(key, _NOTHING), part) for key, part in changed.items()]
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
            if len(after) - len(before) != lengths[1] - lengths[0] or not self._apart[name]:
                return None
            tables[name] = after
        return replace(self._whole, **tables)

    def _anew(self, base: Tables) -> Tables:
        parts = base, *(self._groups[key] for key in sorted(self._groups))
        large: dict[str, Any] = {name: Edited.of({}, {}) for name in _LARGE}  # Any: as above
        tables = Tables(**large)
        for part in parts:
            tables.add(part)
        self._apart = {name: len(getattr(tables, name)) == sum(len(getattr(p, name)) for p in parts) for name in _LARGE}
        return tables


_NOTHING, _FEW = Tables(), 32
