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
from netloom.dataplane.netlink.wire import FAMILY, attribute, attributes, nested, u32
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
_BY_NUMBER, _BY_PORT = 1 << 3, 1 << 5  # net/netfilter/nf_internals.h
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
    """Deletes the entries of clients of these ports that do not lead to their pods, in one reading a family; how many there were."""
    ports = [port for port in published if port.protocol in _CONNECTIONLESS]
    if not ports or not _entries():
        return 0
    kernel = Nfnetlink()
    try:
        with Netlink(buffer=0) as routes:
            return sum(
                _delete(kernel, _astray(kernel, routes, [port for port in ports if port.address.version == version]))
                for version in {port.address.version for port in ports}
            )
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


def _astray(kernel: Nfnetlink, routes: Netlink, ports: Collection[Published]) -> Iterator[Message]:
    """One request to delete for each entry of a client of these ports, all of one family, that leads elsewhere."""
    version = next(iter(ports)).address.version
    wanted: dict[tuple[bytes, bytes], list[Published]] = {}
    for port in ports:
        wanted.setdefault((_number(port), _service(port)), []).append(port)
    somewhere = re.compile(b"|".join(re.escape(attribute(_DESTINATION_PORT, service)[:6]) for _, service in wanted))
    here: dict[bytes, bool] = {}
    for _, family, body in kernel.dump(Message(_GET, 0, FAMILY[version], _listed(wanted), "conntrack")):
        if not somewhere.search(body):
            continue
        entry = attributes(body)
        original, reply = attributes(entry[_ORIGINAL]), attributes(entry[_REPLY])
        protocol = attributes(original[_TUPLE_PROTOCOL])
        asked = wanted.get((protocol.get(_NUMBER, b""), protocol.get(_DESTINATION_PORT, b"")), [])
        target = attributes(original[_TUPLE_ADDRESSES]).get(_DESTINATION[version], b"")
        answers = attributes(reply[_TUPLE_ADDRESSES]).get(_SOURCE[version])
        if not target or any(answers == port.address.packed for port in asked):
            continue
        for port in asked:
            if port.host_address is None and target not in here:
                here[target] = is_local(routes, ipaddress.ip_address(target))
            if port.host_address.packed == target if port.host_address else here[target]:
                yield _to_delete(family, entry)
                break


def _listed(wanted: Collection[tuple[bytes, bytes]]) -> bytes:
    """What the kernel lists no others than, where it knows how to (since 5.8); what it lists is looked at in any case."""
    numbers, services = {number for number, _ in wanted}, {service for _, service in wanted}
    only = [attribute(_NUMBER, number) for number in numbers] if len(numbers) == 1 else []
    flags = _BY_NUMBER if only else 0
    if only and len(services) == 1:
        only, flags = [*only, attribute(_DESTINATION_PORT, *services)], flags | _BY_PORT
    chosen = nested(_ORIGINAL, nested(_TUPLE_PROTOCOL, *only)) + nested(_FILTER, u32(_BY_ORIGINAL, flags))
    return chosen if flags else b""


def _number(port: Published) -> bytes:
    return bytes((_CONNECTIONLESS[port.protocol],))


def _service(port: Published) -> bytes:
    return port.host_port.to_bytes(2, "big")


def _addresses(direction: bytes) -> frozenset[bytes]:
    """Source and destination of one tuple."""
    return frozenset(attributes(attributes(direction)[_TUPLE_ADDRESSES]).values())
