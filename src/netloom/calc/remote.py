"""The other nodes: for each, and each pool that it holds blocks in, what it takes to reach them; and blackholes for our own.

    claims     which node holds which prefixes, from the blocks' records
    conflicts  what several nodes say of themselves, and cannot all be true of
    ways       what leads to a node, and in which form
    bgp        what this node's BIRD should do

Our own blocks are blackholed with the highest metric: a packet to an address that no pod holds ends here, and does not travel in
circles.  In a cluster of thousands few nodes change at a time, so what was computed for the others is kept (`Last`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from netloom.calc import bgp, forms, metrics
from netloom.calc.bgp import taking
from netloom.calc.claims import Claims, Held
from netloom.calc.conflicts import Doubts, doubts_of
from netloom.calc.encap import ENCAPS, carried
from netloom.calc.merging import Merged
from netloom.calc.tables import Tables
from netloom.calc.ways import Members, ways
from netloom.model.desired import Route, RouteKey, RouteKind
from netloom.model.edited import Edited, differing
from netloom.model.forms import Form, Method
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot

_MOST = 8
"""Problems of one kind that are told."""


_GROUPS = 256


class _Group(NamedTuple):
    """What leads to some of the nodes, and what that was computed from besides the circumstances: each node and its claims, by name.
    Groups, because tables for each of thousands would take more memory than they save time."""

    members: Members
    tables: Tables


class Last:
    """What was computed last, and from what: when one node of thousands has changed, so does its part alone.  It saves time, and
    decides nothing."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.nodes: Mapping[str, Node] | None = None
        """Those that the groups are made of; None: they are none of any more."""
        self.pools: Mapping[str, IPPool] | None = None
        self.circumstances: tuple[object, ...] = ()
        self.groups: dict[int, _Group] = {}
        self.own: tuple[tuple[object, ...], Tables] = (), Tables()
        self.merged = Merged()
        self.doubts: Doubts | None = None
        self.bgp = bgp.Known()


def remote(snapshot: Snapshot, host: Host, last: Last | None = None) -> Tables:
    last = last or Last()
    devices = forms.opened(snapshot, host)
    problems: list[str] = []
    claims = last.claims.of_others(snapshot, host, problems)
    doubts = last.doubts = doubts_of(snapshot, host, last.doubts)
    changed = _compute(last, snapshot, host, devices, doubts, claims)
    tables = last.merged.of(_own(last, snapshot, host, devices), changed)
    tables = replace(tables, vteps=doubts.told, problems=[*problems, *doubts.problems, *tables.problems])
    for form, device in devices.items():
        if form.method is Method.UDP and device in tables.links and _to_processes(tables, snapshot, form):
            tables.links, tables.sysctls = {**tables.links}, {**tables.sysctls}
            tables.add(carried.finished(host, device, tables.links[device]))
    if standing := dict(taking.standing_by(host)):
        tables.routes = Edited.of(tables.routes, standing)
    tables.bgp = bgp.config(snapshot, host, tables, doubts.addresses, last.bgp)
    return tables


def _own(last: Last, snapshot: Snapshot, host: Host, devices: Mapping[Form, str]) -> Tables:
    """What this node needs whoever the others are."""
    privileged, clashes = forms.privileged(snapshot, host), forms.clashes(snapshot, host)
    basis = host, dict(devices), privileged, clashes
    if last.own[0] == basis:
        return last.own[1]
    tables = Tables()
    for form, device in devices.items():
        tables.add(ENCAPS[form.method].local(host, form, device))
    tables.problems += [
        f"node {name} says that it sends {form}, which no pool wants: ports below 1024 are not opened for that; see what its Node says"
        for form, name in islice(privileged.items(), _MOST)
    ]
    tables.problems += [
        f"{form} is not opened: {holder} has its UDP port; give one of them another port in the FelixConfiguration, or change in two steps: "
        f"first to a form with another port, and to {form} when nobody sends {holder} any more"
        for form, holder in islice(clashes.items(), _MOST)
    ]
    for block in host.blocks:
        tables.routes[RouteKey(block, metrics.BLACKHOLE)] = Route(kind=RouteKind.BLACKHOLE)
    last.own = basis, tables
    return tables


def _compute(
    last: Last,
    snapshot: Snapshot,
    host: Host,
    devices: Mapping[Form, str],
    doubts: Doubts,
    claims: Mapping[str, tuple[Held, ...]],
) -> Mapping[int, Tables]:
    """Makes the groups as they are now.  Those that may be others than they were."""
    touched, nodes = last.claims.touched, last.nodes
    last.nodes = None  # until this has come to its end
    names: Collection[str]
    if not _unchanged(last, snapshot, host, devices, doubts):
        last.groups, last.merged, names = {}, Merged(), claims
    elif touched is None or nodes is None:
        names = {*claims, *(name for group in last.groups.values() for name in group.members)}
    else:
        names = {*touched, *differing(snapshot.nodes, nodes)}
    touched_groups = _grouped(names)
    for number, found in touched_groups.items():
        group = last.groups.get(number)
        together = sorted(found.union(group.members if group is not None else ()) & claims.keys())
        members = {name: (snapshot.nodes.get(name), claims[name]) for name in together}
        if group is None or group.members != members:
            last.groups[number] = _Group(members, ways(snapshot, host, devices, doubts, members))
    last.nodes = snapshot.nodes
    return {number: last.groups[number].tables for number in touched_groups}


def _unchanged(last: Last, snapshot: Snapshot, host: Host, devices: Mapping[Form, str], doubts: Doubts) -> bool:
    """Whether all that ways to nodes depend on, besides those nodes, is as it was.  This node's blocks are none of it."""
    circumstances = (
        snapshot.configuration,
        replace(host, blocks=(), standby={}),
        forms.own_word(snapshot, host),
        dict(devices),
        doubts.macs,
        frozenset(doubts.addresses),
        bgp.is_on(snapshot),
    )
    same = last.pools is snapshot.pools and last.circumstances == circumstances
    last.pools, last.circumstances = snapshot.pools, circumstances
    return same


def _grouped(names: Iterable[str]) -> Mapping[int, set[str]]:
    found: dict[int, set[str]] = defaultdict(set)
    for name in names:
        found[crc32(name.encode()) % _GROUPS].add(name)
    return found


def _to_processes(tables: Tables, snapshot: Snapshot, form: Form) -> bool:
    """Whether anybody who is sent to in that form may be no agent of ours: one says what machine it is on."""
    nodes = (snapshot.nodes[name].spec for (name, _), use in tables.uses.items() if form in (use.form, use.next))
    return any(not node.receives and not node.machine for node in nodes)
