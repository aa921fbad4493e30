"""The other nodes: for each, and each pool that it holds blocks in, what it takes to reach them; and blackholes for our own.

A block counts for the node that its record names (`claims`), and only while a Node of that incarnation exists.  Our own blocks are
blackholed with the highest metric: a packet to an address that no pod holds ends here, and does not travel in circles.

What one node says of itself draws no traffic of another's: blocks do not overlap; a tunnel address lies in its node's own blocks; a VTEP MAC that two nodes show leads to neither; an address of the
underlay that two show, or that is a pod's, is nobody's source.

While the cluster goes from one form to another, several stand side by side, and each node is sent what it receives (`forms`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from netloom.calc import bgp, forms, metrics
from netloom.calc.bgp import taking
from netloom.calc.claims import Claims, Held
from netloom.calc.conflicts import disputed
from netloom.calc.encap import ENCAPS, carried, direct
from netloom.calc.encap.peer import Peer
from netloom.calc.tables import Tables
from netloom.model.addresses import Address, Mac, Prefix
from netloom.model.desired import Route, RouteKey, RouteKind
from netloom.model.forms import Form, Method, Use
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot

_MOST = 8
"""Problems of one kind that are told."""


_GROUPS = 128


class _Group(NamedTuple):
    """What leads to some of the nodes, and what that was computed from besides the circumstances: each node and its claims, by name.
    Groups, because tables for each of thousands would take more memory than they save time."""

    members: Mapping[str, tuple[Node | None, list[Held]]]
    tables: Tables


class _Doubts(NamedTuple):
    """What several nodes say of themselves, and cannot all be true of; `nodes`, `pools`: asked about which."""

    nodes: Mapping[str, Node]
    pools: Mapping[str, IPPool]
    host: tuple[object, ...]
    macs: frozenset[Mac]
    addresses: Mapping[Address, str]
    problems: tuple[str, ...]


class Last:
    """What was computed last, and from what: when one node of thousands has changed, so does its part alone.  It saves time, and
    decides nothing."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.pools: Mapping[str, IPPool] | None = None
        self.circumstances: tuple[object, ...] = ()
        self.groups: Mapping[int, _Group] = {}
        self.doubts: _Doubts | None = None
        self.bgp = bgp.Known()


def remote(snapshot: Snapshot, host: Host, last: Last | None = None) -> Tables:
    last, tables = last or Last(), Tables()
    devices = forms.opened(snapshot, host)
    for form, device in devices.items():
        tables.add(ENCAPS[form.method].local(host, form, device))
    claims = last.claims.of_others(snapshot, host, tables.problems)
    doubts = last.doubts = _doubts(snapshot, host, last.doubts)
    tables.problems += doubts.problems
    tables.problems += [
        f"node {name} says that it sends {form}, which no pool wants: ports below 1024 are not opened for that; see what its Node says"
        for form, name in islice(forms.privileged(snapshot, host).items(), _MOST)
    ]
    tables.problems += [
        f"{form} is not opened: {holder} has its UDP port; give one of them another port in the FelixConfiguration, or change in two steps: "
        f"first to a form with another port, and to {form} when nobody sends {holder} any more"
        for form, holder in islice(forms.clashes(snapshot, host).items(), _MOST)
    ]
    known = last.groups if _unchanged(last, snapshot, host, devices, doubts) else {}
    last.groups = {}
    for number, members in _grouped(snapshot, claims).items():
        group = known.get(number)
        if group is None or group.members != members:
            group = _Group(members, _ways(snapshot, host, devices, doubts, members))
        last.groups[number] = group
        tables.add(group.tables)
    for form, device in devices.items():
        if form.method is Method.UDP and device in tables.links and _to_processes(tables, snapshot, form):
            tables.add(carried.finished(host, device, tables.links[device]))
    for block in host.blocks:
        tables.routes[RouteKey(block, metrics.BLACKHOLE)] = Route(kind=RouteKind.BLACKHOLE)
    tables.bgp = bgp.config(snapshot, host, tables, doubts.addresses, last.bgp)
    return tables


def _unchanged(last: Last, snapshot: Snapshot, host: Host, devices: Mapping[Form, str], doubts: _Doubts) -> bool:
    """Whether all that ways to nodes depend on, besides those nodes, is as it was.  This node's blocks are none of it."""
    circumstances = (
        snapshot.configuration,
        replace(host, blocks=()),
        forms.own_word(snapshot, host),
        dict(devices),
        doubts.macs,
        frozenset(doubts.addresses),
        bgp.is_on(snapshot),
    )
    same = last.pools is snapshot.pools and last.circumstances == circumstances
    last.pools, last.circumstances = snapshot.pools, circumstances
    return same


def _grouped(
    snapshot: Snapshot, claims: Mapping[str, list[Held]]
) -> Mapping[int, Mapping[str, tuple[Node | None, list[Held]]]]:
    found: dict[int, dict[str, tuple[Node | None, list[Held]]]] = defaultdict(dict)
    for name, held in claims.items():
        found[crc32(name.encode()) % _GROUPS][name] = (snapshot.nodes.get(name), held)
    return found


def _ways(
    snapshot: Snapshot,
    host: Host,
    devices: Mapping[Form, str],
    doubts: _Doubts,
    members: Mapping[str, tuple[Node | None, list[Held]]],
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
            tables.uses[name, pool_name] = _sent(tables, snapshot, host, peer, pool, want, devices)
    return tables


def _sent(
    tables: Tables, snapshot: Snapshot, host: Host, peer: Peer, pool: IPPool, want: Form, devices: Mapping[Form, str]
) -> Use:
    """Adds what the agent has to do with a peer's prefixes in one pool.  Of what is BIRD's it does only what is to last (`bgp.taking`)."""
    if not bgp.is_on(snapshot):
        return _reach(tables, snapshot, host, peer, want, devices)
    if want == forms.DIRECT:
        rest = taking.rest(host, peer)
        if rest is None:
            return taking.BIRDS
        tables.lasting += rest.prefixes
        return _reach(tables, snapshot, host, rest, want, devices)
    use = _reach(tables, snapshot, host, peer, want, devices)
    if use.form != want:
        tables.left += taking.led(host, peer)
    elif pool.spec.encapsulation.cross_subnet and peer.name in host.far:
        tables.tunnelled += peer.prefixes
    return use


def _reach(tables: Tables, snapshot: Snapshot, host: Host, peer: Peer, want: Form, devices: Mapping[Form, str]) -> Use:
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

    use = forms.use(want, host, forms.own_word(snapshot, host), snapshot.nodes[peer.name], reaches)
    if use.form is not None and leads(use.form):
        use = use._replace(bird=True)
    elif use.form is not None:
        tables.add(part(use.form))
    if use.next is not None and use.next != use.form:
        tables.add(replace(part(use.next), routes={}))
    return use


def _to_processes(tables: Tables, snapshot: Snapshot, form: Form) -> bool:
    """Whether anybody who is sent to in that form may be no agent of ours: one says what machine it is on."""
    nodes = (snapshot.nodes[name].spec for (name, _), use in tables.uses.items() if form in (use.form, use.next))
    return any(not node.receives and not node.machine for node in nodes)


def _doubts(snapshot: Snapshot, host: Host, known: _Doubts | None) -> _Doubts:
    own = (host.node, host.addresses, host.vtep_mac)
    if known is not None and known.nodes is snapshot.nodes and known.pools is snapshot.pools and known.host == own:
        return known
    problems: list[str] = []
    macs, addresses = _shared_macs(snapshot, host, problems), disputed(snapshot, host)
    return _Doubts(snapshot.nodes, snapshot.pools, own, frozenset(macs), addresses, (*problems, *addresses.values()))


def _shared_macs(snapshot: Snapshot, host: Host, problems: list[str]) -> set[Mac]:
    """VTEP MACs that more than one node shows, this one included."""
    shown: dict[Mac, str] = {host.vtep_mac: host.node} if host.vtep_mac else {}
    shared = set()
    for node in snapshot.nodes.values():
        if (mac := node.spec.vtep_mac) and shown.setdefault(mac, node.name) != node.name:
            problems.append(f"nodes {shown[mac]} and {node.name} have the same VTEP MAC {mac}: VXLAN leads to neither")
            shared.add(mac)
    return shared


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
