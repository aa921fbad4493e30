"""The other nodes: for each, and each pool that it holds blocks in, what it takes to reach them; and blackholes for our own.

    claims     which node holds which prefixes, from the blocks' records
    conflicts  what several nodes say of themselves, and cannot all be true of
    ways       what leads to a node, and in which form
    bgp        what this node's BIRD should do

Our own blocks are blackholed with the highest metric: a packet to an address that no pod holds ends here, and does not travel in
circles.  In a cluster of thousands few nodes change at a time, so what was computed for the others is kept (`Last`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from netloom.calc import bgp, forms, metrics
from netloom.calc.bgp import taking
from netloom.calc.claims import Claims, Held
from netloom.calc.conflicts import Doubts, doubts_of
from netloom.calc.encap import ENCAPS, carried
from netloom.calc.merging import Merged
from netloom.calc.tables import Tables
from netloom.calc.ways import ways
from netloom.model.desired import Route, RouteKey, RouteKind
from netloom.model.edited import Edited, differing
from netloom.model.forms import Form, Method
from netloom.model.host import Host
from netloom.model.resources import IPPool, Node
from netloom.model.snapshot import Snapshot

_MOST = 8
"""Problems of one kind that are told."""


_RECENT = 64
"""Nodes whose part is kept: who has changed is likely to change again."""

Member = tuple[Node | None, tuple[Held, ...]]
"""All that a node's part is computed from besides the circumstances: its Node, if there is one, and what it claims."""


class Last:
    """What was computed last, and from what: when one node of thousands has changed, so does its part alone.  It saves time, and
    decides nothing."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.nodes: Mapping[str, Node] | None = None
        """Those that all was put together from; None: nothing is."""
        self.pools: Mapping[str, IPPool] | None = None
        self.circumstances: tuple[object, ...] = ()
        self.recent: dict[str, tuple[Member, Tables]] = {}
        self.own: tuple[tuple[object, ...], Tables] = (), Tables()
        self.merged = Merged()
        self.doubts: Doubts | None = None
        self.bgp = bgp.Known()


def remote(snapshot: Snapshot, host: Host, last: Last | None = None) -> Tables:
    last = last or Last()
    devices = forms.opened(snapshot, host)
    nodes, last.nodes = last.nodes, None  # until all is put together
    problems: list[str] = []
    claims = last.claims.of_others(snapshot, host, problems)
    doubts = last.doubts = doubts_of(snapshot, host, last.doubts)
    _compute(last, snapshot, host, devices, doubts, claims, nodes)
    tables = last.merged.whole
    tables = replace(tables, vteps=doubts.told, problems=[*problems, *doubts.problems, *tables.problems])
    for form, device in devices.items():
        if form.method is Method.UDP and device in tables.links and _to_processes(tables, snapshot, form):
            tables.links = tables.links | carried.finished(host, device, tables.links[device]).links
    if standing := dict(taking.standing_by(host)):
        routes: Any = Edited.of(tables.routes, standing)  # Any: as in a table that was put together
        tables.routes = routes
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
    nodes: Mapping[str, Node] | None,
) -> None:
    """Puts together what this node needs, and what each of the others does.  `nodes`: as they were the last time."""
    own = _own(last, snapshot, host, devices)

    def part(name: str, member: Member) -> Tables:
        known = last.recent.get(name)
        return known[1] if known is not None and known[0] == member else ways(snapshot, host, devices, doubts, {name: member})

    def edited(nodes: Mapping[str, Node]) -> bool:
        held = last.claims.before
        names = held.keys() | differing(snapshot.nodes, nodes)
        if 2 * len(names) > len(claims):
            return False
        changes = {}
        for name in names:
            is_now = snapshot.nodes.get(name), claims.get(name, ())
            was, now = part(name, (nodes.get(name), held.get(name, is_now[1]))), part(name, is_now)
            changes[name] = was, now
            if len(names) < _RECENT:
                last.recent[name] = is_now, now
        return last.merged.edit(own, changes)

    unchanged = _unchanged(last, snapshot, host, devices, doubts)
    if not unchanged or len(last.recent) > _RECENT:
        last.recent = {}
    if not unchanged or nodes is None or not edited(nodes):
        members = ((name, (snapshot.nodes.get(name), claims[name])) for name in sorted(claims))
        last.merged.anew(own, ((name, part(name, member)) for name, member in members))
    last.nodes = snapshot.nodes


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


def _to_processes(tables: Tables, snapshot: Snapshot, form: Form) -> bool:
    """Whether anybody who is sent to in that form may be no agent of ours: one says what machine it is on."""
    nodes = (snapshot.nodes[name].spec for (name, _), use in tables.uses.items() if form in (use.form, use.next))
    return any(not node.receives and not node.machine for node in nodes)
