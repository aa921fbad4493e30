"""The other nodes: for each, and each pool that it holds blocks in, what it takes to reach them; and blackholes for our own.

A block counts for the node that its record names, and only while a Node of that incarnation exists.  Our own blocks are
blackholed with the highest metric: a packet to an address that no pod holds ends here, and does not travel in circles.

What one node says of itself draws no traffic of another's: blocks stand under their own names and are a slot of their pool, so that
two cannot overlap; a tunnel address lies in its node's own blocks; a VTEP MAC that two nodes show leads to neither; an address of the
underlay that two show, or that is a pod's, is nobody's source.

While the cluster goes from one form to another, several stand side by side, and each node is sent what it receives (`forms`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from netloom.calc import bgp, forms, metrics
from netloom.calc.conflicts import disputed
from netloom.calc.encap import ENCAPS, carried, direct
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Mac, Prefix, contains, overlap
from netloom.model.desired import Route, RouteKey, RouteKind
from netloom.model.forms import Form, Method, Use
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node, block_name
from netloom.model.snapshot import Snapshot

_MOST = 8
"""Problems of one kind that are told."""


def remote(snapshot: Snapshot, host: Host) -> Tables:
    tables = Tables()
    devices = forms.opened(snapshot, host)
    for form, device in devices.items():
        tables.add(ENCAPS[form.method].local(host, form, device))
    claims = _claims(snapshot, host, tables.problems)
    shared = _shared_macs(snapshot, host, tables.problems)
    doubts = disputed(snapshot, host)
    tables.problems += doubts.values()
    tables.problems += [
        f"node {name} says that it sends {form}, which no pool wants: ports below 1024 are not opened for that; see what its Node says"
        for form, name in islice(forms.privileged(snapshot, host).items(), _MOST)
    ]
    tables.problems += [
        f"{form} is not opened: {holder} has its UDP port; give one of them another port in the FelixConfiguration, or change in two steps: "
        f"first to a form with another port, and to {form} when nobody sends {holder} any more"
        for form, holder in islice(forms.clashes(snapshot, host).items(), _MOST)
    ]
    held: dict[str, list[Prefix]] = defaultdict(list)
    for (name, _), prefixes in claims.items():
        held[name] += prefixes
    others = {name: _peer(snapshot.nodes[name], prefixes, shared) for name, prefixes in held.items()}
    for form, device in devices.items():
        tables.add(ENCAPS[form.method].known(host, device, others.values(), doubts))
    for (name, pool_name), prefixes in claims.items():
        peer = replace(others[name], prefixes=tuple(prefixes))
        want = forms.wanted(snapshot, host, snapshot.pools[pool_name])
        if snapshot.pools[pool_name].spec.encapsulation.cross_subnet and direct.is_neighbour(host, peer):
            want = forms.DIRECT
        tables.uses[name, pool_name] = _reach(tables, snapshot, host, peer, want, devices)
    for form, device in devices.items():
        if form.method is Method.UDP and device in tables.links and _to_processes(tables, snapshot, form):
            tables.add(carried.finished(host, device, tables.links[device]))
    for block in host.blocks:
        tables.routes[RouteKey(block, metrics.BLACKHOLE)] = Route(kind=RouteKind.BLACKHOLE)
    tables.bgp = bgp.config(snapshot, host, tables, doubts)
    return tables


def _reach(tables: Tables, snapshot: Snapshot, host: Host, peer: Peer, want: Form, devices: Mapping[Form, str]) -> Use:
    """Adds what it takes to send to the peer now, and, but for routes, in the form that is to be next: so that it can be tried."""
    found: dict[Form, Tables] = {}

    def part(form: Form) -> Tables:
        if form not in found:
            found[form] = ENCAPS[form.method].peer(host, devices[form], peer) if form in devices else Tables()
        return found[form]

    use = forms.use(want, host, forms.own_word(snapshot, host), snapshot.nodes[peer.name], lambda form: bool(part(form).routes))
    if use.form is not None:
        tables.add(part(use.form))
    if use.next is not None and use.next != use.form:
        tables.add(replace(part(use.next), routes={}))
    return use


def _to_processes(tables: Tables, snapshot: Snapshot, form: Form) -> bool:
    """Whether anybody who is sent to in that form may be no agent of ours: one says what machine it is on."""
    nodes = (snapshot.nodes[name].spec for (name, _), use in tables.uses.items() if form in (use.form, use.next))
    return any(not node.receives and not node.machine for node in nodes)


def _claims(snapshot: Snapshot, host: Host, problems: list[str]) -> dict[tuple[str, str], list[Prefix]]:
    """Prefixes by (node, pool)."""
    found: dict[tuple[str, str], list[Prefix]] = defaultdict(list)
    for block in snapshot.blocks.values():
        pool = _pool_of(snapshot, block.spec.cidr)
        if pool and pool.spec.network:
            continue
        if block.name != block_name(block.spec.cidr) or (pool and block.spec.cidr.prefixlen != pool.spec.block_size):
            problems.append(f"block {block.name} is no slot of its pool: what it claims does not count (netloom ipam check)")
            continue
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


def _shared_macs(snapshot: Snapshot, host: Host, problems: list[str]) -> set[Mac]:
    """VTEP MACs that more than one node shows, this one included."""
    shown: dict[Mac, str] = {host.vtep_mac: host.node} if host.vtep_mac else {}
    shared = set()
    for node in snapshot.nodes.values():
        if (mac := node.spec.vtep_mac) and shown.setdefault(mac, node.name) != node.name:
            problems.append(f"nodes {shown[mac]} and {node.name} have the same VTEP MAC {mac}: VXLAN leads to neither")
            shared.add(mac)
    return shared


def _peer(node: Node, held: list[Prefix], shared: set[Mac]) -> Peer:
    """With all that it claims, in any pool."""
    return Peer(
        name=node.name,
        addresses=tuple(a.ip for a in node.spec.addresses),
        prefixes=tuple(held),
        metric=metrics.node_metric(node.name),
        vtep_mac=node.spec.vtep_mac if node.spec.vtep_mac not in shared else None,
        tunnel_addresses=tuple(a for a in node.spec.tunnel_addresses if any(a in prefix for prefix in held)),
    )
