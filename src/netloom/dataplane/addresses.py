"""Addresses of interfaces.  On an interface of ours (`loom…`) every address that is not wanted is taken away, also one that the
kernel gave it.  On another interface (a bridge that the user named) wanted addresses are put, and others are left alone.

Two things are tricky.  An address with a peer, without its prefix's route, or with an end to its life is not what was wanted,
though its key is the same; the kernel does not mend all of that in place, so it is taken away and put again.  And in IPv4 the first
address of a subnet takes the others of that subnet with it when it goes; so they are put again.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from netloom.dataplane.entries import UNLIKE, Entries, Found
from netloom.dataplane.netlink import device_names, get_addresses, parse_address, put_address
from netloom.dataplane.netlink.tables import delete_found_address, encode_address
from netloom.model.attachments import PREFIX
from netloom.model.desired import AddressKey
from netloom.reconcile import Changes


class Addresses(Entries[AddressKey, None]):
    name = "addresses"
    replaces = False

    def changes(self, want: Mapping[AddressKey, None]) -> Changes[AddressKey, None]:
        changes = super().changes(want)
        shaken = {_subnet(key) for key in changes.delete}
        again = {key: None for key in want if key.address.version == 4 and _subnet(key) in shaken}
        return Changes({**changes.put, **again}, changes.delete)

    def device(self, key: AddressKey, value: None) -> str:
        return key.device

    def owns(self, key: AddressKey) -> bool:
        return key.device.startswith(PREFIX)

    def encode(self, key: AddressKey, value: None, index: int) -> bytes:
        return encode_address(index, key.address)

    def decode(self, entry: bytes, names: Mapping[int, str]) -> Found[AddressKey] | None:
        index, address, plain = parse_address(entry)
        return Found(AddressKey(names[index], address), None if plain else UNLIKE) if index in names else None

    def read(self, at: Mapping[str, int]) -> dict[bytes, bytes]:
        """Few, and with timestamps in the middle: so each is decoded, and a plain one encoded again for the comparison."""
        found = {}
        for body in self._dump():
            index, address, plain = parse_address(body)
            found[encode_address(index, address) if plain else body] = body
        return found

    def put_request(self, key: AddressKey, value: None, index: int) -> bytes:
        return put_address(index, key.address)

    def delete_requests(self, keys: Collection[AddressKey]) -> Iterable[tuple[AddressKey, bytes]]:
        if not keys:
            return
        names = device_names(self._netlink)
        for body in self._dump():
            found = self.decode(body, names)
            if found and found.key in keys:
                yield found.key, delete_found_address(body)

    def _dump(self) -> Iterator[bytes]:
        for version in (4, 6):
            yield from self._netlink.dump(get_addresses(version))


def _subnet(key: AddressKey) -> Hashable:
    return key.device, key.address.network
