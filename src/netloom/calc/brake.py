"""The brake: ways to other nodes do not go because a datastore has lost its memory.

    before ─┐
            ├─▶ what is missing ─▶ is it too much at once? ─▶ the cluster as it counts here
    now ────┘

A node goes when nothing leads to it any more: its Node is gone, or its claims, or their pools.  That is everyday life, and happens at
once, until more than a fifth of the nodes and more than three would go within ten seconds.  Then what is missing of those that
were still there is held: their Nodes and claims count on, here, as if they were still declared.  So do all that go while something is
held: the datastore is in doubt.  After a jump (another store answers, or it went back) whatever is missing is held, for it was never
taken away by anybody: its owners declare it again, and until then their pods are where they were.

What is held only fills gaps.  What the datastore does say counts: new and changed nodes, and above all a block that is another's by
now.  A hold ends by itself when what was missing is there again, when its block is another's or its node another incarnation, when a
node that came back does not claim it within half a minute, or when a person says that it is gone (`release`).

Pure: `at` is any clock's seconds.  What was held is known again after a restart by its names (`Brake.recalled`): the
remembered snapshot holds the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import msgspec

from netloom.calc.claimants import Claimants
from netloom.model.addresses import Prefix, contains, overlap
from netloom.model.edited import differing
from netloom.model.resources import AnyResource, Claim, IPBlock, IPPool, Node
from netloom.model.snapshot import Snapshot

WINDOW = 10.0
"""Seconds whose departures add up."""
FEW = 3
"""Nodes that may always go."""
SHARE = 5
"""Of so many nodes one may go, beyond those few."""
RETURN = 30.0
"""Seconds in which a node that came back claims what it still has."""

_OF_NODES = frozenset(("Node", "IPBlock", "IPBlockRequest"))
"""What nodes write themselves, and hold on to only where it leads to pods."""
_OF_CLUSTER = frozenset(("FelixConfiguration", "BGPConfiguration", "BGPPeer", "BGPFilter", "Secret"))
"""How nodes are reached: what goes of it while nodes are held goes with them."""

Name = tuple[str, str]
"""Kind and key."""


@dataclass(frozen=True, slots=True)
class Brake:
    """nodes   of which whatever is missing is held; whether the Node itself was missing
    others  pools and whatever else is held
    gone    nodes that went, and when: they add up
    back    when a Node that was missing was seen again
    """

    nodes: Mapping[str, bool] = field(default_factory=dict)
    others: frozenset[Name] = frozenset()
    gone: Mapping[str, float] = field(default_factory=dict)
    back: Mapping[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return bool(self.nodes or self.others)

    @classmethod
    def recalled(cls, nodes: Mapping[str, bool], others: Iterable[Name]) -> Brake:
        """As it was before a restart."""
        return cls(nodes=dict(nodes), others=frozenset(others))

    def without(self, nodes: Collection[str] | None = None) -> Brake:
        """These nodes are gone for good; None: so is everything."""
        if nodes is None:
            return Brake()
        return replace(self, nodes={name: absent for name, absent in self.nodes.items() if name not in nodes})


@dataclass(frozen=True, slots=True)
class _Missing:
    """`claims`: by node, each with its record's name.  `leaving`: nodes that something led to, and nothing does now."""

    nodes: Mapping[str, Node]
    claims: Mapping[str, Sequence[tuple[str, Claim]]]
    others: Mapping[Name, AnyResource]
    leaving: frozenset[str]

    def of(self, node: str) -> bool:
        return node in self.nodes or node in self.claims or node in self.leaving


def step(
    brake: Brake,
    before: Snapshot,
    now: Snapshot,
    own: str,
    at: float,
    *,
    jumped: bool = False,
    claimants: Claimants | None = None,
) -> tuple[Brake, Snapshot]:
    """`before`: the cluster as it counted until now; `own`: the node that calculates, of which nothing is held.  `claimants`: who has
    them from the step before this one saves time."""
    claimants = claimants or Claimants()
    claimants.follow(before.blocks)
    missing = _missing(before, now, own, claimants, everything=jumped or bool(brake.others))
    nodes, others = dict(brake.nodes), set(brake.others)
    gone = {name: since for name, since in brake.gone.items() if at - since < WINDOW}
    if gone:
        gone = {name: gone[name] for name in gone.keys() - _reached(now, own, claimants, gone.keys())}
    if jumped:
        nodes |= {
            name: name in missing.nodes for name in (*missing.nodes, *missing.claims, *missing.leaving) if name not in nodes
        }
        others |= missing.others.keys()
    elif leaving := missing.leaving - nodes.keys():
        went = gone.keys() | leaving
        if nodes or (len(went) > FEW and len(went) > len(went | _reached(before, own, claimants) | {own}) // SHARE):
            nodes |= {name: name in missing.nodes for name in leaving}
        gone |= dict.fromkeys(leaving, at)
    if nodes:
        missing = replace(missing, others=_missing_others(before, now, everything=True))
        others |= {name for name in missing.others if name[0] in _OF_CLUSTER}
    others |= _pools_of(before, missing, nodes)  # also when the last of their nodes went before them
    back = {
        name: brake.back.get(name, at)
        for name, absent in nodes.items()
        if absent and name in missing.claims and name not in missing.nodes
    }
    done = {name for name, since in back.items() if at - since >= RETURN}
    nodes = {name: absent for name, absent in nodes.items() if name not in done and missing.of(name)}
    others &= missing.others.keys()
    brake = Brake(nodes, frozenset(others), gone, {name: since for name, since in back.items() if name in nodes})
    return brake, _filled(before, now, brake, missing)


def held(brake: Brake, before: Snapshot, now: Snapshot, own: str) -> Snapshot:
    """The cluster as it counts with this brake, whatever went: for after a `without`."""
    return _filled(before, now, brake, _missing(before, now, own, Claimants(), everything=bool(brake.others)))


def in_words(brake: Brake) -> Iterator[str]:
    """What is held, for people."""
    absent = sorted(name for name, absent in brake.nodes.items() if absent)
    bare = sorted(name for name, absent in brake.nodes.items() if not absent)
    if absent:
        yield f"{_named('node', absent)} not in the datastore any more: the ways there are held"
    if bare:
        yield f"blocks of {_named('node', bare)} not in the datastore any more: the ways there are held"
    if brake.others:
        yield f"{_named('', [f'{kind} {key}' for kind, key in sorted(brake.others)])} not in the datastore any more, and held"


_NAMED = 3


def _named(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    kind = f"{what}{'s' if len(names) > 1 else ''} " if what else ""
    return f"{kind}{', '.join(names[:_NAMED])}{more} {'are' if len(names) > 1 else 'is'}"


# what is missing


def _missing(before: Snapshot, now: Snapshot, own: str, claimants: Claimants, *, everything: bool) -> _Missing:
    nodes = _missing_nodes(before, now, own)
    claims = _missing_claims(before, now, own)
    others = _missing_others(before, now, everything=everything)
    leaving = frozenset[str]()
    if nodes or claims or others:
        among = nodes.keys() | claims.keys() if before.pools is now.pools else before.nodes.keys() - {own}
        standing = _claims(now, claimants, among)
        leaving = frozenset(
            name
            for name in _leading(before, _claims(before, claimants, among)) - _leading(now, standing)
            if (name in claims or name in standing) and not _reborn(before, now, name)
        )
    return _Missing(nodes, claims, others, leaving)


def _missing_nodes(before: Snapshot, now: Snapshot, own: str) -> Mapping[str, Node]:
    """As they were.  A Node that somebody has prepared says nothing yet of what runs there."""
    if before.nodes is now.nodes:
        return {}
    found: dict[str, Node] = {}
    for name in differing(now.nodes, before.nodes):
        node, old = now.nodes.get(name), before.nodes.get(name)
        if old is None:
            continue
        if node is None:
            found[name] = old
        elif not node.spec.id and old.spec.id:
            found[name] = msgspec.structs.replace(node, spec=old.spec)
    found.pop(own, None)
    return found


def _missing_claims(before: Snapshot, now: Snapshot, own: str) -> Mapping[str, Sequence[tuple[str, Claim]]]:
    """Of other nodes, that counted, and that nobody else has instead."""
    found: dict[str, list[tuple[str, Claim]]] = {}
    if before.blocks is now.blocks:
        return found
    for name in differing(now.blocks, before.blocks):
        block, record = before.blocks.get(name), now.blocks.get(name)
        if block is None or (record is not None and record.spec == block.spec):
            continue
        present = record.spec.claims if record is not None else ()
        for claim in block.spec.claims:
            node = before.nodes.get(claim.node)
            if claim.node == own or node is None or node.spec.id != claim.node_id or _reborn(before, now, claim.node):
                continue
            if not any(overlap(claim.cidr, other.cidr) for other in present):
                found.setdefault(claim.node, []).append((name, claim))
    return found


def _missing_others(before: Snapshot, now: Snapshot, *, everything: bool) -> Mapping[Name, AnyResource]:
    """Pools; or `everything`.  A pool in whose place another one stands is not missing."""
    found: dict[Name, AnyResource] = {}
    if everything or before.pools is not now.pools:
        for resource in before.resources() if everything else before.pools.values():
            if resource.kind in _OF_NODES or now.get(resource.kind, resource.key) is not None:
                continue
            if isinstance(resource, IPPool) and any(overlap(resource.spec.cidr, p.spec.cidr) for p in now.pools.values()):
                continue
            found[resource.kind, resource.key] = resource
    return found


def _reborn(before: Snapshot, now: Snapshot, name: str) -> bool:
    """Whether the node is another incarnation by now, which has nothing of the one before."""
    old, new = before.nodes.get(name), now.nodes.get(name)
    return old is not None and new is not None and new.spec.id not in ("", old.spec.id)


def _reached(snapshot: Snapshot, own: str, claimants: Claimants, among: Set[str] | None = None) -> set[str]:
    """Other nodes that something leads to; `among` these, which saves time."""
    return _leading(snapshot, _claims(snapshot, claimants, snapshot.nodes.keys() - {own} if among is None else among))


def _claims(snapshot: Snapshot, claimants: Claimants, among: Set[str]) -> dict[str, list[Claim]]:
    """Of these nodes, by node."""
    found: dict[str, list[Claim]] = {}
    for block in claimants.among(snapshot.blocks, among):
        for claim in block.spec.claims:
            if claim.node in among:
                found.setdefault(claim.node, []).append(claim)
    return found


def _leading(snapshot: Snapshot, claims: Mapping[str, Iterable[Claim]]) -> set[str]:
    """Those of them whose claims count."""
    pools, found = snapshot.pools.values(), set()
    for name, mine in claims.items():
        node = snapshot.nodes.get(name)
        if node is not None and any(claim.node_id == node.spec.id and _in_a_pool(pools, claim.cidr) for claim in mine):
            found.add(name)
    return found


def _in_a_pool(pools: Iterable[IPPool], cidr: Prefix) -> bool:
    return any(contains(pool.spec.cidr, cidr) for pool in pools)


def _pools_of(before: Snapshot, missing: _Missing, nodes: Collection[str]) -> set[Name]:
    """Those of the missing pools that blocks of these nodes lie in."""
    pools = {name: pool for name, pool in missing.others.items() if isinstance(pool, IPPool)}
    if not pools:
        return set()
    cidrs = [c.cidr for block in before.blocks.values() for c in block.spec.claims if c.node in nodes]
    return {name for name, pool in pools.items() if any(contains(pool.spec.cidr, cidr) for cidr in cidrs)}


# what is held


def _filled(before: Snapshot, now: Snapshot, brake: Brake, missing: _Missing) -> Snapshot:
    """`now` itself where there is nothing to fill in."""
    changes: list[tuple[str, str, AnyResource | None]] = [
        *(("Node", name, node) for name, node in missing.nodes.items() if name in brake.nodes),
        *((kind, key, found) for (kind, key), found in missing.others.items() if (kind, key) in brake.others),
        *(("IPBlock", block.name, block) for block in _blocks(before, now, brake, missing)),
    ]
    return now.updated(now.revision, changes) if changes else now


def _blocks(before: Snapshot, now: Snapshot, brake: Brake, missing: _Missing) -> Iterator[IPBlock]:
    """Records with the held claims in them."""
    records: dict[str, list[Claim]] = {}
    for node in brake.nodes.keys() & missing.claims.keys():
        for name, claim in missing.claims[node]:
            records.setdefault(name, []).append(claim)
    for name, claims in records.items():
        present, known = now.blocks.get(name), before.blocks[name]
        if present is None and len(claims) == len(known.spec.claims):
            yield known  # as it was, which thousands are
        elif present is None or present.spec.cidr == known.spec.cidr:  # else it is another slot's by now
            others = present.spec.claims if present is not None else ()
            together = tuple(sorted((*others, *claims), key=lambda claim: claim.cidr))
            block = present or known
            yield msgspec.structs.replace(block, spec=msgspec.structs.replace(block.spec, claims=together))
