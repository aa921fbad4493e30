"""Ways: what leads to another node, in each pool that it holds blocks in.

A block counts only while a Node of the incarnation that claimed it exists.  What one node says of itself draws no traffic of
another's: a tunnel address lies in its node's own blocks, and what is in doubt (`conflicts`) leads nowhere and is nobody's source.

While the cluster goes from one form to another, several stand side by side, and each node is sent what it receives (`forms`).  Where
BIRD programs routes, the agent does what is to last until BIRD's stand (`bgp.taking`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import replace

from netloom.calc import bgp, forms, metrics
from netloom.calc.bgp import taking
from netloom.calc.claims import Held
from netloom.calc.conflicts import Doubts
from netloom.calc.encap import ENCAPS, direct
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Mac, Prefix
from netloom.model.forms import Form, Use
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot

Members = Mapping[str, tuple[Node | None, tuple[Held, ...]]]
"""Nodes by name, each with what it claims; None: there is no such Node."""


def ways(
    snapshot: Snapshot,
    host: Host,
    devices: Mapping[Form, str],
    doubts: Doubts,
    members: Members,
) -> Tables:
    tables = Tables()
    for name, (node, claims) in members.items():
        by_pool: dict[str, list[Prefix]] = defaultdict(list)
        for held in claims:
            if not held.pool:
                tables.problems.append(f"block {held.prefix} of node {name} is in no pool: no way there")
            elif node is None or node.spec.id != held.node_id:
                tables.problems.append(f"block {held.prefix} belongs to node {name}, which is not there: no way there")
            else:
                by_pool[held.pool].append(held.prefix)
        if node is None or not by_pool:
            continue
        whole = _peer(node, [prefix for prefixes in by_pool.values() for prefix in prefixes], doubts.macs)
        for form, device in devices.items():
            tables.add(ENCAPS[form.method].known(host, device, (whole,), doubts.addresses))
        for pool_name, prefixes in by_pool.items():
            peer, pool = replace(whole, prefixes=tuple(prefixes)), snapshot.pools[pool_name]
            want = forms.wanted(snapshot, host, pool)
            if pool.spec.encapsulation.cross_subnet and direct.is_neighbour(host, peer):
                want = forms.DIRECT
            tables.uses[name, pool_name] = _sent(tables, snapshot, host, node, peer, pool, want, devices)
    return tables


def _sent(
    tables: Tables,
    snapshot: Snapshot,
    host: Host,
    node: Node,
    peer: Peer,
    pool: IPPool,
    want: Form,
    devices: Mapping[Form, str],
) -> Use:
    """Adds what the agent has to do with a peer's prefixes in one pool.  Of what is BIRD's it does only what is to last (`bgp.taking`)."""
    if not bgp.is_on(snapshot):
        return _reach(tables, snapshot, host, node, peer, want, devices)
    if want == forms.DIRECT:
        rest = taking.rest(host, peer)
        if rest is None:
            return taking.BIRDS
        tables.lasting += rest.prefixes
        return _reach(tables, snapshot, host, node, rest, want, devices)
    use = _reach(tables, snapshot, host, node, peer, want, devices)
    if use.form != want:
        tables.left += taking.led(host, peer)
    elif pool.spec.encapsulation.cross_subnet and peer.name in host.far:
        tables.tunnelled += peer.prefixes
    return use


def _reach(
    tables: Tables, snapshot: Snapshot, host: Host, node: Node, peer: Peer, want: Form, devices: Mapping[Form, str]
) -> Use:
    """Adds what it takes to send to the peer now, and, but for routes, in the form that is to be next: so that it can be tried."""
    found: dict[Form, Tables] = {}

    def part(form: Form) -> Tables:
        if form not in found:
            found[form] = ENCAPS[form.method].peer(host, devices[form], peer) if form in devices else Tables()
        return found[form]

    def leads(form: Form) -> bool:
        return bgp.is_on(snapshot) and taking.leads(host, peer, form)

    def reaches(form: Form) -> bool:
        return bool(part(form).routes) or leads(form)

    use = forms.use(want, host, forms.own_word(snapshot, host), node, reaches)
    if use.form is not None and leads(use.form):
        use = use._replace(bird=True)
    elif use.form is not None:
        tables.add(part(use.form))
    if use.next is not None and use.next != use.form:
        tables.add(replace(part(use.next), routes={}))
    return use


def _peer(node: Node, held: list[Prefix], shared: Container[Mac]) -> Peer:
    """With all that it claims, in any pool."""
    return Peer(
        name=node.name,
        addresses=tuple(a.ip for a in node.spec.addresses),
        prefixes=tuple(held),
        metric=metrics.node_metric(node.name),
        vtep_mac=node.spec.vtep_mac if node.spec.vtep_mac not in shared else None,
        former=node.spec.former,
        tunnel_addresses=tuple(a for a in node.spec.tunnel_addresses if any(a in prefix for prefix in held)),
    )
