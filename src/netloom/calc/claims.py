"""Claims: which prefixes other nodes hold, from the blocks' records.

A block stands under its own name and is a slot of its pool, so that no two overlap; what lies in our own blocks is ours, whatever a
record says.  Whether a claim's node is there, and is still the one that made it, is asked by who has the nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import chain
from typing import NamedTuple

from netloom.model.addresses import Prefix, contains, overlap
from netloom.model.edited import differing
from netloom.model.host import Host
from netloom.model.resources import IPBlock, IPPool, block_name
from netloom.model.snapshot import Snapshot


class Held(NamedTuple):
    """`pool`: its name; empty for a prefix that is in none."""

    node: str
    node_id: str
    pool: str
    prefix: Prefix


class _Said(NamedTuple):
    """What one record says."""

    block: IPBlock
    claims: tuple[Held, ...] = ()
    problem: str = ""


class Claims:
    """Remembers what each record said, as long as the pools are the same: of thousands, few change at a time.  `before`: what nodes
    held at the call before, of those that may hold something else now."""

    def __init__(self) -> None:
        self.before: Mapping[str, tuple[Held, ...]] = {}
        self._blocks: Mapping[str, IPBlock] = {}
        self._pools: Mapping[str, IPPool] | None = None
        self._own: tuple[str, tuple[Prefix, ...]] | None = None
        self._said: dict[str, _Said] = {}
        self._problems: dict[str, str] = {}
        self._parts: dict[str, dict[str, tuple[Held, ...]]] = {}
        """By node, and then by record."""
        self._held: dict[str, tuple[Held, ...]] = {}

    def of_others(self, snapshot: Snapshot, host: Host, problems: list[str]) -> Mapping[str, tuple[Held, ...]]:
        """By node; of one of which nothing has changed the very same value as before.  Good until the next call."""
        blocks, own = snapshot.blocks, (host.node, host.blocks)
        touched: set[str] = set()
        if self._pools is not snapshot.pools:
            self._pools, self._own, self._said = snapshot.pools, None, {}
        same, self._own = self._own == own, None  # until all is put together: a fault half-way is no basis for the next call
        changed = differing(blocks, self._blocks)
        for name in changed:
            if name not in blocks:
                touched |= self._forget(name)
                self._said.pop(name, None)
        held = self._held
        if not same:
            self._problems, self._parts, self._held = {}, {}, {}
            changed = blocks
        near = _near(snapshot, host) if changed else ()
        for name in changed:
            if (block := blocks.get(name)) is None:
                continue
            touched |= self._forget(name)
            said = self._said.get(name)
            if said is None or said.block is not block:
                said = self._said[name] = _said(block, snapshot)
            touched |= self._take(name, said, host, ours=near is None or name in near)
        self.before = {node: held.get(node, ()) for node in touched}
        for node in touched:
            if parts := self._parts.get(node):
                self._held[node] = tuple(chain.from_iterable(parts[name] for name in sorted(parts)))
            else:
                self._held.pop(node, None)
                self._parts.pop(node, None)
        if not same:
            self.before = {node: held.get(node, ()) for node in {*held, *self._held} if held.get(node) != self._held.get(node)}
        self._blocks, self._own = blocks, own
        problems += (self._problems[name] for name in sorted(self._problems))
        return self._held

    def _take(self, name: str, said: _Said, host: Host, *, ours: bool) -> set[str]:
        """Whose it is by this record.  `ours`: it may speak of this node's own blocks."""
        if said.problem:
            self._problems[name] = said.problem
        found: dict[str, tuple[Held, ...]] = {}
        for held in said.claims:
            if held.node != host.node and not (ours and any(overlap(held.prefix, own) for own in host.blocks)):
                found[held.node] = (*found.get(held.node, ()), held)
        for node, parts in found.items():
            self._parts.setdefault(node, {})[name] = parts
        return set(found)

    def _forget(self, name: str) -> set[str]:
        """Whose it was by this record."""
        self._problems.pop(name, None)
        said = self._said.get(name)
        nodes = {held.node for held in said.claims} if said else set[str]()
        return {node for node in nodes if self._parts.get(node, {}).pop(name, ())}


def _said(block: IPBlock, snapshot: Snapshot) -> _Said:
    cidr, pool = block.spec.cidr, pool_of(snapshot, block.spec.cidr)
    if pool and pool.spec.network:
        return _Said(block)
    if block.name != block_name(cidr) or (pool and cidr.prefixlen != pool.spec.block_size):
        return _Said(
            block, problem=f"block {block.name} is no slot of its pool: what it claims does not count (netloom ipam check)"
        )
    name = pool.name if pool else ""
    return _Said(block, tuple(Held(claim.node, claim.node_id, name, claim.cidr) for claim in block.spec.claims))


def _near(snapshot: Snapshot, host: Host) -> Collection[str] | None:
    """Names of the records that may speak of our own blocks: of their slots.  None: any may, as a block of ours is in no pool."""
    found = set()
    for own in host.blocks:
        pool = pool_of(snapshot, own)
        if pool is None or own.prefixlen < pool.spec.block_size:
            return None
        found.add(block_name(own.supernet(new_prefix=pool.spec.block_size)))
    return found


def pool_of(snapshot: Snapshot, cidr: Prefix) -> IPPool | None:
    return next((pool for pool in snapshot.pools.values() if contains(pool.spec.cidr, cidr)), None)
