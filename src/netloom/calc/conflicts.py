"""Conflicts: what nodes say of themselves that cannot all be true.  It is named, and nothing that runs is taken away for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from netloom.model.addresses import Address, Mac
from netloom.model.edited import alike
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot

_NAMED = 3  # nodes


class Doubts(NamedTuple):
    """MACs of VTEPs that more than one node shows, and addresses that may be another's; `told`: all that nodes say to
    have; `nodes`, `pools`, `host`: asked about which."""

    nodes: Mapping[str, Node]
    pools: Mapping[str, IPPool]
    host: tuple[object, ...]
    macs: frozenset[Mac]
    addresses: Mapping[Address, str]
    told: frozenset[Address]
    problems: tuple[str, ...]


def doubts_of(snapshot: Snapshot, host: Host, known: Doubts | None) -> Doubts:
    """`known`: what was found last, which is good for nodes that say the same of themselves."""
    own = (host.node, host.addresses, host.former, host.vtep_mac)
    same = known is not None and known.pools is snapshot.pools and known.host == own
    if known is not None and same and alike(snapshot.nodes, known.nodes, _said):
        return known._replace(nodes=snapshot.nodes)
    problems: list[str] = []
    macs, addresses = _shared_macs(snapshot, host, problems), _disputed(snapshot, host)
    told = frozenset(address for node in snapshot.nodes.values() for address in _told(node))
    return Doubts(snapshot.nodes, snapshot.pools, own, frozenset(macs), addresses, told, (*problems, *addresses.values()))


def _said(node: Node) -> object:
    """All that can be in conflict with another's."""
    return node.spec.addresses, node.spec.former, node.spec.vtep_mac


def _shared_macs(snapshot: Snapshot, host: Host, problems: list[str]) -> set[Mac]:
    """VTEP MACs that more than one node shows, this one included."""
    shown: dict[Mac, str] = {host.vtep_mac: host.node} if host.vtep_mac else {}
    shared = set()
    for node in snapshot.nodes.values():
        if (mac := node.spec.vtep_mac) and shown.setdefault(mac, node.name) != node.name:
            problems.append(f"nodes {shown[mac]} and {node.name} have the same VTEP MAC {mac}: VXLAN leads to neither")
            shared.add(mac)
    return shared


def _disputed(snapshot: Snapshot, host: Host) -> Mapping[Address, str]:
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
