"""Conflicts: what nodes say of themselves that cannot all be true.  It is named, and nothing that runs is taken away for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netloom.model.addresses import Address
from netloom.model.host import Host
from netloom.model.resources import Node
from netloom.model.snapshot import Snapshot

_NAMED = 3  # nodes


def disputed(snapshot: Snapshot, host: Host) -> Mapping[Address, str]:
    """Addresses that a node says to have and that may be another's, each with a sentence about it."""
    found = dict(_shared(snapshot, host))
    cidrs = [pool.spec.cidr for pool in snapshot.pools.values()]
    for name, node in snapshot.nodes.items():
        for ip in _told(node):
            if any(ip in cidr for cidr in cidrs):
                found.setdefault(ip, f"node {name} says that {ip} is its own, an address of pods: it is not believed")
    return found


def _told(node: Node) -> tuple[Address, ...]:
    """Addresses that a node says to have."""
    return (*(address.ip for address in node.spec.addresses), *node.spec.former)


def _shared(snapshot: Snapshot, host: Host) -> Iterator[tuple[Address, str]]:
    """Underlay addresses that more than one node shows, this one included.  Of machines whose first interface is the same private
    network everywhere, all may."""
    first: dict[Address, str] = dict.fromkeys((*(address.ip for address in host.addresses), *host.former), host.node)
    shared: dict[Address, list[str]] = {}
    for name, node in snapshot.nodes.items():
        for ip in _told(node) if name != host.node else ():
            if (other := first.setdefault(ip, name)) != name:
                shared.setdefault(ip, [other]).append(name)
    for ip, names in shared.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        words = f"nodes {', '.join(names[:_NAMED])}{more} have the same address {ip}: what is sent to one of them comes to another; "
        yield ip, words + "set nodeAddresses or ipAutodetectionMethod there (docs/underlay.md)"
