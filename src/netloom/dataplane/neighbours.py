"""Permanent neighbours (ARP and NDP); ours are those on our interfaces.  What the kernel learned is not permanent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from netloom.dataplane.entries import Entries, Found
from netloom.dataplane.netlink import delete_neighbour, put_neighbour
from netloom.dataplane.netlink.tables import (
    NEIGHBOUR_TAIL,
    encode_neighbour,
    get_neighbours,
    is_permanent,
    parse_neighbour,
)
from netloom.model.addresses import Mac
from netloom.model.attachments import PREFIX
from netloom.model.desired import NeighbourKey


class Neighbours(Entries[NeighbourKey, Mac]):
    name = "neighbours"

    def device(self, key: NeighbourKey, value: Mac) -> str:
        return key.device

    def owns(self, key: NeighbourKey) -> bool:
        return key.device.startswith(PREFIX)

    def encode(self, key: NeighbourKey, value: Mac, index: int) -> bytes:
        return encode_neighbour(index, key.address, value)

    def decode(self, entry: bytes, names: Mapping[int, str]) -> Found[NeighbourKey] | None:
        index, address, mac = parse_neighbour(entry)
        return Found(NeighbourKey(names[index], address), mac) if index in names else None

    def read(self, at: Mapping[str, int]) -> dict[bytes, bytes]:
        """Of all interfaces at once: asked for one, the kernel would still walk through all."""
        return {
            body[:-NEIGHBOUR_TAIL]: body
            for version in (4, 6)
            for body in self._netlink.dump(get_neighbours(version))
            if is_permanent(body)
        }

    def put_request(self, key: NeighbourKey, value: Mac, index: int) -> bytes:
        return put_neighbour(index, key.address, value)

    def delete_requests(self, keys: Collection[NeighbourKey]) -> Iterable[tuple[NeighbourKey, bytes]]:
        at = self.resolve({key.device for key in keys})
        return [(key, delete_neighbour(at[key.device], key.address)) for key in keys if key.device in at]
