"""Edited: a mapping that was made out of another one by a few changes, and knows which keys they touched.

Of thousands of entries few change at a time.  Who holds the mapping before this one, and compares both, needs to look at those
keys alone; everybody else compares them as usual.  Nothing depends on it but time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import compress
from operator import is_not
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Edited(dict[K, V]):
    """Not to be changed in place.  Which one it was made of it knows by a mark, so it does not keep that one alive."""

    __slots__ = ("_made_of", "_mark", "_touched")
    _mark: object
    _made_of: object | None
    _touched: Collection[K]

    @classmethod
    def of(cls, before: Mapping[K, V], put: Mapping[K, V], gone: Iterable[K] = ()) -> Edited[K, V]:
        """`before`, with `put` in it, and without `gone`."""
        made, gone = cls(before), tuple(key for key in gone if key not in put)
        for key in gone:
            made.pop(key, None)
        made.update(put)
        made._mark, made._made_of, made._touched = object(), None, ()
        if isinstance(before, Edited):
            made._made_of, made._touched = before._mark, (*put, *gone)
        return made

    def since(self, before: Mapping[K, V]) -> Collection[K] | None:
        """Keys under which something else may stand than before; None: under any."""
        return self._touched if isinstance(before, Edited) and before._mark is self._made_of else None


def differing(now: Mapping[K, V], before: Mapping[K, V]) -> Collection[K]:
    """Keys under which there is not the same object as before, or none any more.  For keys that are hashed quickly."""
    if now is before:
        return ()
    touched = now.since(before) if isinstance(now, Edited) else None
    if touched is not None:
        return touched
    changed = list(compress(now, map(is_not, now.values(), map(before.get, now))))
    if len(now) - sum(key not in before for key in changed) < len(before):
        changed += [key for key in before if key not in now]
    return changed


def alike(now: Mapping[K, V], before: Mapping[K, V], part: Callable[[V], object]) -> bool:
    """Whether this part of each entry is as it was, and there are the same ones."""
    for key in differing(now, before):
        value, old = now.get(key), before.get(key)
        if value is None or old is None or part(value) != part(old):
            return False
    return True
