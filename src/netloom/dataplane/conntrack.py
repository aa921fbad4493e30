"""Connection tracking: forget what belonged to an address before another pod gets it.

An entry has two tuples, the packet as it was first seen and the reply as it is expected; NAT makes them differ.  An address is
concerned if it stands anywhere in either: as client, as server, behind a service's address, or as what a masqueraded
reply is sent back to.  Nothing else is deleted (F77): entries are read, chosen here, and deleted by their own original
tuple and ID, so that a new connection which meanwhile took the same tuple stays.

Reading takes its time on a host with a million entries: this is for a worker thread.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from netloom.dataplane.netlink.wire import attribute, attributes
from netloom.dataplane.nft.nfnetlink import SUBSYSTEM_CONNTRACK, Message, Nfnetlink
from netloom.model.addresses import Address

_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
"""Of the calling thread's namespace; absent where nf_conntrack is not loaded."""

# linux/netfilter/nfnetlink_conntrack.h
_GET, _DELETE = SUBSYSTEM_CONNTRACK << 8 | 1, SUBSYSTEM_CONNTRACK << 8 | 2
_ORIGINAL, _REPLY, _ID, _ZONE = 1, 2, 12, 18
_TUPLE_ADDRESSES = 1
_AT_ONCE = 200


def flush(addresses: Collection[Address]) -> int:
    """Deletes the entries of all the addresses in one reading; how many there were."""
    if not addresses or not _entries():
        return 0
    kernel = Nfnetlink()
    try:
        found = list(_requests(kernel, frozenset(address.packed for address in addresses)))
        chunks = (found[start : start + _AT_ONCE] for start in range(0, len(found), _AT_ONCE))
        # what is refused has ended by itself in between
        return len(found) - sum(len(kernel.send(chunk)) for chunk in chunks)
    finally:
        kernel.close()


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
            same = b"".join(attribute(kind, entry[kind]) for kind in (_ORIGINAL, _ZONE, _ID) if kind in entry)
            yield Message(_DELETE, 0, family, same, "conntrack entry")


def _addresses(direction: bytes) -> frozenset[bytes]:
    """Source and destination of one tuple."""
    return frozenset(attributes(attributes(direction)[_TUPLE_ADDRESSES]).values())
