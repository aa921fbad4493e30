"""What routes, neighbours and FDB entries have in common: there are thousands, and mostly nothing is to be done.

So the usual pass is a comparison of bytes.  What is wanted is encoded once as the kernel dumps it, and kept as long as the same
mapping is wanted and its interfaces keep their indexes; a pass dumps the table, and compares two sets.  Only entries that
differ are decoded, and compared by meaning: bytes may differ in what is of no interest (a flag `linkdown`).  A ChainMap is taken
layer by layer (no two of which have a key in common): when a pod comes, the thousands of entries below are not encoded again.

    changes   wanted ─encode→ {bytes: key} ─┬─ same: nothing to do
              kernel ─dump→   {bytes: entry} ┴─ differ ─decode→ {key: values} ─→ Changes
    since     wanted ─┬─ what was wanted when kernel and wish last agreed ─→ Changes, for who knows that nobody else has written since
    apply     one batch; each refusal is matched to its key

`since` is what keeps a change elsewhere cheap in a large cluster: it encodes what has changed, and reads nothing.

The tricky thing: the kernel may hold two entries under one key of ours (somebody appended a second route), or one that a put
cannot replace.  Such a key is in both `put` and `delete` of the changes: it is taken away first, then put again.
"""

from __future__ import annotations

import abc
import errno
from collections import ChainMap
from collections.abc import Collection, Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from netloom.dataplane.batch import Batch, Step
from netloom.dataplane.netlink import Netlink, device_names, indexes
from netloom.model.edited import Edited
from netloom.reconcile import Changes, Outcome

K = TypeVar("K", bound=tuple[Hashable, ...])
V = TypeVar("V")

UNLIKE: Final = object()
"""Stands for a value that no wanted one can be."""
_END: Final = (None, None)


@dataclass(frozen=True, slots=True)
class Found(Generic[K]):
    """An entry of the kernel, decoded.  `value`: what a wanted value is compared with, or UNLIKE."""

    key: K
    value: object


@dataclass(frozen=True, slots=True)
class _Wanted(Generic[K, V]):
    """`want` encoded with the interface indexes `at`; `homeless`: items whose interface does not exist."""

    want: Mapping[K, V]
    devices: frozenset[str]
    at: Mapping[str, int]
    entries: dict[bytes, K]
    homeless: tuple[tuple[K, V], ...]


class Entries(abc.ABC, Generic[K, V]):
    """A reconcile.Driver; a table adds how its entries look.  A wanted mapping must not be changed in place."""

    name: str
    replaces = True
    """Whether a put takes the place of what is there.  Where it does not, deletes go first."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._known: list[_Wanted[K, V]] = []
        self._agreed = False
        """Whether the kernel was brought to hold what is known to be wanted."""

    @abc.abstractmethod
    def device(self, key: K, value: V) -> str:
        """The interface that the entry needs; empty for none."""

    @abc.abstractmethod
    def owns(self, key: K) -> bool:
        """Whether the entry may be deleted when it is not wanted."""

    @abc.abstractmethod
    def encode(self, key: K, value: V, index: int) -> bytes:
        """The entry as `read` gives it."""

    @abc.abstractmethod
    def decode(self, entry: bytes, names: Mapping[int, str]) -> Found[K] | None:
        """None where the entry is none of ours."""

    @abc.abstractmethod
    def read(self, at: Mapping[str, int]) -> dict[bytes, bytes]:
        """The table: of each entry what is compared, and the whole."""

    @abc.abstractmethod
    def put_request(self, key: K, value: V, index: int) -> bytes: ...

    @abc.abstractmethod
    def delete_requests(self, keys: Collection[K]) -> Iterable[tuple[K, bytes]]:
        """Requests that take the keys away; none for a key that cannot be there."""

    def resolve(self, devices: Collection[str]) -> Mapping[str, int]:
        """Indexes of the interfaces among `devices` that exist, or more."""
        return indexes(self._netlink, devices)

    def changes(self, want: Mapping[K, V]) -> Changes[K, V]:
        self._agreed = False
        layers = _layers(want)
        kept = [next((known for known in self._known if known.want is layer), None) for layer in layers]
        devices = [known.devices if known else self._devices(layer) for known, layer in zip(kept, layers, strict=True)]
        at = self.resolve(frozenset().union(*devices))
        have = self.read(at)
        self._known = [self._encoded(*each, at) for each in zip(layers, devices, kept, strict=True)]
        extra: Set[bytes] = have.keys()
        missing: dict[K, V] = {}
        for known in self._known:
            missing.update((key, known.want[key]) for entry, key in known.entries.items() if entry not in have)
            missing.update(known.homeless)
            extra = extra - known.entries.keys()
        found = self._difference(want, missing, [have[entry] for entry in extra]) if extra else Changes(missing)
        self._agreed = not found
        return found

    def since(self, want: Mapping[K, V]) -> Changes[K, V] | None:
        """What has changed of the wish since the table agreed with it; None where the table has to be looked at."""
        layers = _layers(want)
        if not self._agreed or len(layers) != len(self._known) or any(known.homeless for known in self._known):
            return None
        differences = [_difference(layer, known.want) for layer, known in zip(layers, self._known, strict=True)]
        for (put, _), known in zip(differences, self._known, strict=True):
            if not self._devices(put) <= known.at.keys():
                return None
        self._known = [self._edited(*each) for each in zip(self._known, layers, differences, strict=True)]
        changed = {key for put, gone in differences for key in (*put, *gone)}
        found = Changes(
            {key: want[key] for key in changed if key in want}, frozenset(key for key in changed if key not in want)
        )
        self._agreed = not found
        return found

    def apply(self, changes: Changes[K, V]) -> Outcome:
        put, delete = changes.put, changes.delete
        first = delete & put.keys() if self.replaces else delete
        at = self.resolve(self._devices(put))
        batch: Batch[K] = Batch(self.name)
        for key, request in self.delete_requests(first):
            batch.add(Step.CLEAR if key in put else Step.DELETE, key, request)
        for key, value in put.items():
            device = self.device(key, value)
            if device and device not in at:
                batch.refuse(key, f"no interface {device}", errno.ENODEV)
            else:
                batch.add(Step.PUT, key, self.put_request(key, value, at[device] if device else 0))
        for key, request in self.delete_requests(delete - first):
            batch.add(Step.DELETE, key, request)
        outcome = batch.send(self._netlink)
        self._agreed = not outcome.failures
        return outcome

    def _encoded(
        self, want: Mapping[K, V], devices: frozenset[str], known: _Wanted[K, V] | None, indexes_now: Mapping[str, int]
    ) -> _Wanted[K, V]:
        at = {device: indexes_now[device] for device in devices if device in indexes_now}
        if known is not None and known.at == at:
            return known
        entries: dict[bytes, K] = {}
        homeless = []
        for item in want.items():
            device = self.device(*item)
            if device and device not in at:
                homeless.append(item)
            else:
                entries[self.encode(*item, at[device] if device else 0)] = item[0]
        return _Wanted(want, devices, at, entries, tuple(homeless))

    def _edited(
        self, known: _Wanted[K, V], want: Mapping[K, V], difference: tuple[Mapping[K, V], Collection[K]]
    ) -> _Wanted[K, V]:
        """In place: thousands of entries are as they were."""
        put, gone = difference
        before = [self._entry(known, key, known.want[key]) for key in (*put, *gone) if key in known.want]
        after = {self._entry(known, key, value): key for key, value in put.items()}
        for entry in before:
            del known.entries[entry]
        known.entries.update(after)
        return replace(known, want=want)

    def _entry(self, known: _Wanted[K, V], key: K, value: V) -> bytes:
        device = self.device(key, value)
        return self.encode(key, value, known.at[device] if device else 0)

    def _devices(self, items: Mapping[K, V]) -> frozenset[str]:
        return frozenset({self.device(*item) for item in items.items()} - {""})

    def _difference(self, want: Mapping[K, V], missing: Mapping[K, V], extra: Iterable[bytes]) -> Changes[K, V]:
        """`missing`: what is wanted and not there byte for byte.  `extra`: what is there besides what is wanted byte for byte."""
        found = self._decoded(extra)
        put = {key: value for key, value in missing.items() if found.get(key) != [value]}
        crowded = {
            key
            for key, values in found.items()
            if key in want and (key not in missing or len(values) > 1 or (not self.replaces and key in put))
        }
        unwanted = {key for key in found if key not in want and self.owns(key)}
        return Changes(put | {key: want[key] for key in crowded}, frozenset(unwanted | crowded))

    def _decoded(self, entries: Iterable[bytes]) -> dict[K, list[object]]:
        found: dict[K, list[object]] = {}
        names = device_names(self._netlink)
        for entry in entries:
            decoded = self.decode(entry, names)
            if decoded:
                found.setdefault(decoded.key, []).append(decoded.value)
        return found


def _layers(want: Mapping[K, V]) -> list[Mapping[K, V]]:
    return list(want.maps) if isinstance(want, ChainMap) else [want]


def _difference(new: Mapping[K, V], old: Mapping[K, V]) -> tuple[dict[K, V], list[K]]:
    """What is to be put, and what is gone.  A mapping that was made of the old one knows it.  Else: who computes only what has changed
    keeps the other keys, the very objects, in their order: then both are walked side by side, and little is hashed, which for addresses
    takes longer than all the rest."""
    if new is old:
        return {}, []
    if isinstance(new, Edited) and (touched := new.since(old)) is not None:
        put = {key: new[key] for key in touched if key in new and (key not in old or old[key] != new[key])}
        return put, [key for key in touched if key in old and key not in new]
    put = {}
    passed: list[K] = []
    others = iter(old.items())
    other, its = next(others, _END)
    for key, value in new.items():
        if other is not key and other != key:
            if key not in old:
                put[key] = value
                continue
            while other is not None and other != key:
                passed.append(other)
                other, its = next(others, _END)
        if its is not value:
            put[key] = value
        other, its = next(others, _END)
    while other is not None:
        passed.append(other)
        other, _ = next(others, _END)
    put = {key: value for key, value in put.items() if key not in old or old[key] != value}
    return put, [key for key in passed if key not in new]
