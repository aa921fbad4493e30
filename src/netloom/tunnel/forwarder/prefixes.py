"""Longest prefix match: what belongs to an address.

A mapping per prefix length, longest first; in front of them one of addresses that were asked for before.  So a packet costs one
look-up in a dictionary, however many peers there are; an address that is new costs as many as there are lengths, which is two or
three: blocks, and a single address here and there.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from netloom.model.addresses import Prefix

V = TypeVar("V")

_REMEMBERED = 1 << 16  # addresses; somebody who scans a pool is not to take all memory


class Prefixes(Generic[V]):
    """Of both families: an address is its bytes, and 4 of them are never 16."""

    def __init__(self) -> None:
        self._lengths: dict[int, dict[int, dict[int, V]]] = {4: {}, 16: {}}
        """Bytes of an address → prefix length → prefix bits → value; lengths in descending order."""
        self._found: dict[bytes, V | None] = {}

    def put(self, prefix: Prefix, value: V) -> None:
        of_family = self._lengths[prefix.max_prefixlen // 8]
        if prefix.prefixlen not in of_family:
            of_family[prefix.prefixlen] = {}
            self._lengths[prefix.max_prefixlen // 8] = dict(sorted(of_family.items(), reverse=True))
            of_family = self._lengths[prefix.max_prefixlen // 8]
        of_family[prefix.prefixlen][_bits(prefix)] = value
        self._found.clear()

    def delete(self, prefix: Prefix) -> None:
        of_family = self._lengths[prefix.max_prefixlen // 8]
        if values := of_family.get(prefix.prefixlen):
            values.pop(_bits(prefix), None)
            if not values:
                del of_family[prefix.prefixlen]
        self._found.clear()

    def find(self, address: bytes) -> V | None:
        try:
            return self._found[address]
        except KeyError:
            return self._find(address)

    def _find(self, address: bytes) -> V | None:
        number, size = int.from_bytes(address, "big"), 8 * len(address)
        found = None
        for length, values in self._lengths[len(address)].items():
            if (found := values.get(number >> size - length)) is not None:
                break
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[address] = found
        return found


def _bits(prefix: Prefix) -> int:
    return int(prefix.network_address) >> prefix.max_prefixlen - prefix.prefixlen
