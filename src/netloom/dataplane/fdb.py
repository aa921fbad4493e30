"""Forwarding entries of VXLAN devices: which node a MAC lives behind.  Ours are the permanent ones on our devices.

Other interfaces have forwarding tables too (a bridge keeps its ports' own MACs); only the VXLAN devices' own tables are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from netloom.dataplane.entries import Entries, Found
from netloom.dataplane.netlink import delete_fdb, get_links, parse_link, put_fdb
from netloom.dataplane.netlink.tables import FDB_TAIL, encode_fdb, get_fdb, is_permanent, parse_fdb
from netloom.model.addresses import Address
from netloom.model.attachments import PREFIX
from netloom.model.desired import FdbKey


class Fdb(Entries[FdbKey, Address]):
    name = "fdb"

    def device(self, key: FdbKey, value: Address) -> str:
        return key.device

    def owns(self, key: FdbKey) -> bool:
        return key.device.startswith(PREFIX)

    def encode(self, key: FdbKey, value: Address, index: int) -> bytes:
        return encode_fdb(index, key.mac, value)

    def decode(self, entry: bytes, names: Mapping[int, str]) -> Found[FdbKey] | None:
        index, mac, destination = parse_fdb(entry)
        return Found(FdbKey(names[index], mac), destination) if index in names else None

    def resolve(self, devices: Collection[str]) -> Mapping[str, int]:
        """All VXLAN devices that are ours or wanted."""
        found = (parse_link(body) for body in self._netlink.dump(get_links("vxlan")))
        return {link.name: link.index for link in found if link.name in devices or link.name.startswith(PREFIX)}

    def read(self, at: Mapping[str, int]) -> dict[bytes, bytes]:
        return {
            body[:-FDB_TAIL]: body for index in at.values() for body in self._netlink.dump(get_fdb(index)) if is_permanent(body)
        }

    def put_request(self, key: FdbKey, value: Address, index: int) -> bytes:
        return put_fdb(index, key.mac, value)

    def delete_requests(self, keys: Collection[FdbKey]) -> Iterable[tuple[FdbKey, bytes]]:
        at = self.resolve({key.device for key in keys})
        return [(key, delete_fdb(at[key.device], key.mac)) for key in keys if key.device in at]
