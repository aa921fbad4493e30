"""Claims: which prefixes other nodes hold, from the blocks' records.

A block stands under its own name and is a slot of its pool, so that no two overlap; what lies in our own blocks is ours, whatever a
record says.  Whether a claim's node is there, and is still the one that made it, is asked by who has the nodes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

from netloom.model.addresses import Prefix, contains, overlap
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
    """Remembers what each record said, as long as the pools are the same: of thousands, few change at a time."""

    def __init__(self) -> None:
        self._pools: Mapping[str, IPPool] | None = None
        self._said: dict[str, _Said] = {}

    def of_others(self, snapshot: Snapshot, host: Host, problems: list[str]) -> Mapping[str, list[Held]]:
        """By node."""
        if self._pools is not snapshot.pools:
            self._pools, self._said = snapshot.pools, {}
        near = _near(snapshot, host)
        found: dict[str, list[Held]] = defaultdict(list)
        for name, block in snapshot.blocks.items():
            said = self._said.get(name)
            if said is None or said.block is not block:
                said = self._said[name] = _said(block, snapshot)
            if said.problem:
                problems.append(said.problem)
            ours = near is None or name in near
            for held in said.claims:
                if held.node != host.node and not (ours and any(overlap(held.prefix, own) for own in host.blocks)):
                    found[held.node].append(held)
        if len(self._said) > len(snapshot.blocks):
            self._said = {name: self._said[name] for name in snapshot.blocks}
        return found


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
