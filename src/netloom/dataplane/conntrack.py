"""Connection tracking: forget what belonged to an address before another pod gets it.

An entry has two tuples, the packet as it was first seen and the reply as it is expected; NAT makes them differ.  An address is
concerned if it stands anywhere in either: as client, as server, behind a service's address, or as what a masqueraded
reply is sent back to.  Nothing else is deleted (F77): entries are read, chosen here, and deleted by their own original
tuple and ID, so that a new connection which meanwhile took the same tuple stays.

A port of the host that leads to a pod from now on has clients that were led elsewhere, or nowhere.  For them the rules are not
asked again as long as they go on, so what is tracked for that port is forgotten, unless it leads to the pod.  Not for TCP: a new
connection there is one, and what the host itself serves is not cut off in the middle.

Reading takes its time on a host with a million entries: this is for a worker thread.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from netloom.dataplane.netlink import Netlink, is_local
from netloom.dataplane.netlink.wire import FAMILY, attribute, attributes, nested, u8, u32
from netloom.dataplane.nft.nfnetlink import SUBSYSTEM_CONNTRACK, Message, Nfnetlink
from netloom.model.addresses import Address
from netloom.model.desired import Published

_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
"""Of the calling thread's namespace; absent where nf_conntrack is not loaded."""

# linux/netfilter/nfnetlink_conntrack.h
_GET, _DELETE = SUBSYSTEM_CONNTRACK << 8 | 1, SUBSYSTEM_CONNTRACK << 8 | 2
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18
_TUPLE_ADDRESSES, _TUPLE_PROTOCOL = 1, 2
_DESTINATION = {4: 2, 6: 4}
_SOURCE = {4: 1, 6: 3}
_NUMBER, _DESTINATION_PORT = 1, 3
_FILTER, _BY_ORIGINAL = 25, 1
_OF_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # net/netfilter/nf_internals.h
_CONNECTIONLESS = {"udp": 17, "sctp": 132}
_AT_ONCE = 200


def flush(addresses: Collection[Address]) -> int:
    """Deletes the entries of all the addresses in one reading; how many there were."""
    if not addresses or not _entries():
        return 0
    kernel = Nfnetlink()
    try:
        return _delete(kernel, _requests(kernel, frozenset(address.packed for address in addresses)))
    finally:
        kernel.close()


def flush_ports(published: Collection[Published]) -> int:
    """Deletes the entries of clients of these ports that do not lead to their pods; how many there were."""
    ports = [port for port in published if port.protocol in _CONNECTIONLESS]
    if not ports or not _entries():
        return 0
    kernel = Nfnetlink()
    try:
        with Netlink(buffer=0) as routes:
            return sum(_delete(kernel, _astray(kernel, routes, port)) for port in ports)
    finally:
        kernel.close()


def _delete(kernel: Nfnetlink, requests: Iterator[Message]) -> int:
    found = list(requests)
    chunks = (found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE))
    # what is refused has ended by itself in between
    return len(found) - sum(len(kernel.send(chunk)) for chunk in chunks)


def _entries() -> int:
    """Asking the kernel by netlink would load the module."""
    try:
        return int(_COUNT.read_text())
    except FileNotFoundError:
        return 0


def _requests(kernel: Nfnetlink, addresses: frozenset[bytes]) -> Iterator[Message]:
    """One request to delete for each entry that concerns the addresses."""
    somewhere = re.compile(b"|".join(map(re.escape, addresses)))
    for _, family, body in kernel.dump(Message(_GET, 0, 0, b"", "conntrack")):
        # most entries are none of ours: taking them apart would cost ten times more
        if not somewhere.search(body):
            continue
        entry = attributes(body)
        if _addresses(entry[_ORIGINAL]) & addresses or _addresses(entry[_REPLY]) & addresses:
            yield _to_delete(family, entry)


def _to_delete(family: int, entry: dict[int, bytes]) -> Message:
    same = b"".join(attribute(kind, entry[kind]) for kind in (_ORIGINAL, _ZONE, _ID) if kind in entry)
    return Message(_DELETE, 0, family, same, "conntrack entry")


def _astray(kernel: Nfnetlink, routes: Netlink, port: Published) -> Iterator[Message]:
    """One request to delete for each entry of a client of `port` that leads elsewhere.  Where the kernel knows how to (since 5.8),
    it lists no others in the first place; what it lists is looked at in any case."""
    version = port.address.version
    number, service = bytes((_CONNECTIONLESS[port.protocol],)), port.host_port.to_bytes(2, "big")
    wanted = nested(_TUPLE_PROTOCOL, u8(_NUMBER, number[0]), attribute(_DESTINATION_PORT, service))
    chosen = nested(_ORIGINAL, wanted) + nested(_FILTER, u32(_BY_ORIGINAL, _OF_PROTOCOL_AND_PORT))
    here: dict[bytes, bool] = {}
    for _, family, body in kernel.dump(Message(_GET, 0, FAMILY[version], chosen, "conntrack")):
        entry = attributes(body)
        original, reply = attributes(entry[_ORIGINAL]), attributes(entry[_REPLY])
        protocol = attributes(original[_TUPLE_PROTOCOL])
        target = attributes(original[_TUPLE_ADDRESSES]).get(_DESTINATION[version], b"")
        if (protocol[_NUMBER], protocol.get(_DESTINATION_PORT)) != (number, service) or not target:
            continue
        if attributes(reply[_TUPLE_ADDRESSES]).get(_SOURCE[version]) == port.address.packed:
            continue
        if target not in here:
            host = ipaddress.ip_address(target)
            here[target] = is_local(routes, host) if port.host_address is None else host == port.host_address
        if here[target]:
            yield _to_delete(family, entry)


def _addresses(direction: bytes) -> frozenset[bytes]:
    """Source and destination of one tuple."""
    return frozenset(attributes(attributes(direction)[_TUPLE_ADDRESSES]).values())
