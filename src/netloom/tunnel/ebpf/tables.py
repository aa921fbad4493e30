"""Drivers of the tunnels' tables: a peer's change is one element of a map, and no packet is held up or lost by it.

tunnels     prefix → node          (`Desired.tunnels`)
senders     nodes that are believed (`Desired.senders`); one that stays keeps its counters
formers     which of these have another address now
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from netloom.dataplane.batch import describe
from netloom.dataplane.bpf import BpfError, prefix_key
from netloom.errors import DataplaneError
from netloom.model.addresses import Address
from netloom.model.desired import SenderKey, TunnelKey
from netloom.reconcile import Changes, Outcome
from netloom.tunnel.ebpf.store import Store
from netloom.tunnel.ebpf.wire import PREFIXES, pack, unpack, unpack_prefix

K = TypeVar("K", TunnelKey, SenderKey)
V = TypeVar("V")


class _Element(NamedTuple):
    device: str
    map: str
    key: bytes


class _Elements(abc.ABC, Generic[K, V]):
    """A reconcile.Driver."""

    name: str
    maps: tuple[str, ...]

    def __init__(self, store: Store) -> None:
        self._store = store

    @abc.abstractmethod
    def element(self, key: K) -> _Element: ...

    @abc.abstractmethod
    def key(self, element: _Element) -> K: ...

    @abc.abstractmethod
    def value(self, value: V) -> bytes | None:
        """None where what is there is right, whatever it is."""

    def changes(self, want: Mapping[K, V]) -> Changes[K, V]:
        have = dict(self._read())
        wanted = {self.element(key): key for key in want}
        put = {key: want[key] for element, key in wanted.items() if not self._is_right(have.get(element), want[key])}
        return Changes(put, frozenset(self.key(element) for element in have.keys() - wanted.keys()))

    def apply(self, changes: Changes[K, V]) -> Outcome:
        put = deleted = 0
        failures = []
        for key, value in changes.put.items():
            device, name, element = self.element(key)
            try:
                self._store.make(device)[name][element] = self.value(value) or b""
                put += 1
            except DataplaneError as e:
                failures.append(self._refusal(key, e))
        for key in changes.delete:
            device, name, element = self.element(key)
            try:
                del self._store.make(device)[name][element]
                deleted += 1
            except DataplaneError as e:
                failures.append(self._refusal(key, e))
        return Outcome(put, deleted, tuple(failures))

    def _read(self) -> Iterator[tuple[_Element, bytes]]:
        for device in self._store.devices():
            maps = self._store.find(device)
            for name in self.maps if maps else ():
                for key, value in maps[name].items() if maps else ():
                    yield _Element(device, name, key), value

    def _is_right(self, have: bytes | None, want: V) -> bool:
        return have is not None and self.value(want) in (None, have)

    def _refusal(self, key: K, error: DataplaneError) -> DataplaneError:
        reason = error.reason if isinstance(error, BpfError) else str(error)
        return DataplaneError(self.name, describe(key), reason, errno=error.errno)


class Tunnels(_Elements[TunnelKey, Address]):
    name = "tunnels"
    maps = tuple(PREFIXES.values())

    def element(self, key: TunnelKey) -> _Element:
        return _Element(key.device, PREFIXES[key.prefix.version], prefix_key(key.prefix))

    def key(self, element: _Element) -> TunnelKey:
        return TunnelKey(element.device, unpack_prefix(element.key))

    def value(self, value: Address) -> bytes:
        return pack(value)


class Senders(_Elements[SenderKey, Address | None]):
    """An IPv4 address in a map looks like an IPv6 one with a rest of zeros, which no node has."""

    name = "senders"
    maps = ("peers",)

    def element(self, key: SenderKey) -> _Element:
        return _Element(key.device, "peers", pack(key.address))

    def key(self, element: _Element) -> SenderKey:
        return SenderKey(element.device, unpack(element.key))

    def value(self, value: Address | None) -> None:
        return None


class Formers(_Elements[SenderKey, Address | None]):
    name = "formers"
    maps = ("formers",)

    def changes(self, want: Mapping[SenderKey, Address | None]) -> Changes[SenderKey, Address | None]:
        return super().changes({key: present for key, present in want.items() if present is not None})

    def element(self, key: SenderKey) -> _Element:
        return _Element(key.device, "formers", pack(key.address))

    def key(self, element: _Element) -> SenderKey:
        return SenderKey(element.device, unpack(element.key))

    def value(self, value: Address | None) -> bytes | None:
        return pack(value) if value is not None else None
