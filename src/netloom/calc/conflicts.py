"""Conflicts: what nodes say of themselves that cannot all be true.  It is named, and nothing that runs is taken away for it."""

from __future__ import annotations

from collections.abc import Iterator

from netloom.model.addresses import Address
from netloom.model.host import Host
from netloom.model.snapshot import Snapshot

_NAMED = 3  # nodes


def shared_addresses(snapshot: Snapshot, host: Host) -> Iterator[str]:
    """Underlay addresses that more than one node shows, this one included.  Of machines whose first interface is the same private
    network everywhere, all may."""
    first: dict[Address, str] = {address.ip: host.node for address in host.addresses}
    shared: dict[Address, list[str]] = {}
    for name, node in snapshot.nodes.items():
        for address in node.spec.addresses if name != host.node else ():
            if (other := first.setdefault(address.ip, name)) != name:
                shared.setdefault(address.ip, [other]).append(name)
    for ip, names in shared.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield (
            f"nodes {', '.join(names[:_NAMED])}{more} have the same address {ip}: what is sent to one of them comes to another; "
            "set nodeAddresses or ipAutodetectionMethod there (docs/underlay.md)"
        )
