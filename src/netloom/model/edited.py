"""Edited: a mapping that was made out of another one by a few changes, and knows which keys they touched.

Of thousands of entries few change at a time.  So an edited mapping shares the entries of the one before it, and has only what was
changed besides; when that has become many, or somebody walks over all of it, it is put together.  And who holds the mapping before this
one, and compares both, needs to look at those keys alone; everybody else compares them as usual.  Nothing depends on it but time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import compress
from operator import is_not
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_GONE: Any = object()  # Any: stands where a value would, and is never given to anybody
_NONE: Any = object()


class Edited(Mapping[K, V]):
    """Never changes.  Which one it was made of it knows by a mark, so it does not keep that one alive.

    `_base` with `_over` on it, of which neither is changed in place, for others have them, too."""

    __slots__ = ("_base", "_length", "_made_of", "_mark", "_over", "_touched")
    _base: dict[K, V]
    _over: dict[K, V]
    _length: int
    _mark: object
    _made_of: object | None
    _touched: Collection[K]

    @classmethod
    def of(cls, before: Mapping[K, V], put: Mapping[K, V], gone: Iterable[K] = ()) -> Edited[K, V]:
        """`before`, with `put` in it, and without `gone`."""
        gone = tuple(key for key in gone if key not in put)
        made = cls()
        made._mark, made._made_of, made._touched = object(), None, ()
        if isinstance(before, Edited):
            made._over = before._over.copy()
            made._base = before._base  # last, here and wherever both are read: see `_together`
            made._made_of, made._touched = before._mark, (*put, *gone)
        else:
            made._base, made._over = dict(before), {}
        made._length = len(before) + sum(key not in before for key in put) - sum(key in before for key in {*gone})
        made._over.update(put)
        made._over.update(dict.fromkeys(gone, _GONE))
        if len(made._over) ** 2 > len(made._base):  # then copying the one takes as long as putting together now and then
            made._together()
        return made

    def since(self, before: Mapping[K, V]) -> Collection[K] | None:
        """Keys under which something else may stand than before; None: under any."""
        return self._touched if isinstance(before, Edited) and before._mark is self._made_of else None

    def __getitem__(self, key: K) -> V:
        found = self._over.get(key, _NONE) if self._over else _NONE
        if found is _NONE:
            return self._base[key]
        if found is _GONE:
            raise KeyError(key)
        return found  # type: ignore[no-any-return]  # a value, as it is none of ours

    def get(self, key: K, default: Any = None) -> Any:  # Any: of two overloads of Mapping's
        found = self._over.get(key, _NONE) if self._over else _NONE
        if found is _NONE:
            return self._base.get(key, default)
        return default if found is _GONE else found

    def __contains__(self, key: object) -> bool:
        over: dict[Any, V] = self._over  # Any: whatever it is
        found = over.get(key, _NONE) if over else _NONE
        return key in self._base if found is _NONE else found is not _GONE

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        return iter(self._together())

    def keys(self) -> Any:  # Any: a dict's view, here and below
        return self._together().keys()

    def values(self) -> Any:
        return self._together().values()

    def items(self) -> Any:
        return self._together().items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Edited):
            return self is other or self._together() == other._together()
        return self._together() == (other if isinstance(other, dict) else dict(other)) if isinstance(other, Mapping) else False

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    def __repr__(self) -> str:
        return f"Edited({self._together()!r})"

    def _together(self) -> dict[K, V]:
        over = self._over
        if not over:
            return self._base
        whole = self._base.copy()
        whole.update(over)
        for key, value in over.items():
            if value is _GONE:
                del whole[key]
        self._base = whole  # first: another thread finds the same with what is over it, and without
        self._over = {}
        return whole


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
