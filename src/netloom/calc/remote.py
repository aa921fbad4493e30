"""The other nodes: for each, and each pool that it holds blocks in, what it takes to reach them; and blackholes for our own.

A block counts for the node that its record names, and only while a Node of that incarnation exists.  Our own blocks are
blackholed with the highest metric: a packet to an address that no pod holds ends here, and does not travel in circles.
"""

from __future__ import annotations

from collections import defaultdict

from netloom.calc import metrics
from netloom.calc.encap import ENCAPS, reach
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Prefix, contains, overlap
from netloom.model.desired import Route, RouteKey, RouteKind
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot


def remote(snapshot: Snapshot, host: Host) -> Tables:
    tables = Tables()
    for encap in {id(e): e for pool in snapshot.pools.values() for e, _ in (ENCAPS[pool.spec.encapsulation],)}.values():
        tables.add(encap.local(host))
    for (name, pool_name), prefixes in _claims(snapshot, host, tables.problems).items():
        peer = _peer(snapshot.nodes[name], tuple(prefixes))
        tables.add(reach(snapshot.pools[pool_name].spec.encapsulation, host, peer))
    for block in host.blocks:
        tables.routes[RouteKey(block, metrics.BLACKHOLE)] = Route(kind=RouteKind.BLACKHOLE)
    return tables


def _claims(snapshot: Snapshot, host: Host, problems: list[str]) -> dict[tuple[str, str], list[Prefix]]:
    """Prefixes by (node, pool)."""
    found: dict[tuple[str, str], list[Prefix]] = defaultdict(list)
    for block in snapshot.blocks.values():
        pool = _pool_of(snapshot, block.spec.cidr)
        for claim in block.spec.claims:
            if claim.node == host.node or any(overlap(claim.cidr, own) for own in host.blocks):
                continue
            node = snapshot.nodes.get(claim.node)
            if pool is None:
                problems.append(f"block {claim.cidr} of node {claim.node} is in no pool: no way there")
            elif node is None or node.spec.id != claim.node_id:
                problems.append(f"block {claim.cidr} belongs to node {claim.node}, which is not there: no way there")
            else:
                found[claim.node, pool.name].append(claim.cidr)
    return found


def _pool_of(snapshot: Snapshot, cidr: Prefix) -> IPPool | None:
    return next((pool for pool in snapshot.pools.values() if contains(pool.spec.cidr, cidr)), None)


def _peer(node: Node, prefixes: tuple[Prefix, ...]) -> Peer:
    return Peer(
        name=node.name,
        addresses=tuple(a.ip for a in node.spec.addresses),
        prefixes=prefixes,
        metric=metrics.node_metric(node.name),
        vtep_mac=node.spec.vtep_mac,
        tunnel_addresses=node.spec.tunnel_addresses,
    )
