"""Figures: why there is no address left, in numbers that tell what to do about it.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from netloom.ipam.blocks import Block, slot_count
from netloom.ipam.holdings import Holdings
from netloom.model.addresses import contains
from netloom.model.resources import IPBlock, IPPool

_MOST = 5  # nodes that the message names


def exhaustion(
    node: str,
    pools: Iterable[IPPool],
    cluster: Sequence[IPBlock],
    own: Mapping[str, Sequence[Block]],
    holdings: Holdings,
    cooled: float,
) -> str:
    """`cluster`: every node's blocks; `own`: this node's, per pool; `cooled`: what was released before this has cooled down."""
    parts = (f"{_of_cluster(pool, cluster)}; {_of_node(own.get(pool.name, ()), holdings, cooled)}" for pool in pools)
    return f"node {node} finds no free address and no free block: {'; '.join(parts)}"


def _of_cluster(pool: IPPool, blocks: Iterable[IPBlock]) -> str:
    claimed = [b for b in blocks if b.spec.claims and contains(pool.spec.cidr, b.spec.cidr)]
    by_node = Counter(node for block in claimed for node in {claim.node for claim in block.spec.claims})
    holders = ", ".join(f"{node} {count}" for node, count in by_node.most_common(_MOST)) or "nobody"
    more = f" and {len(by_node) - _MOST} more nodes" if len(by_node) > _MOST else ""
    return f"pool {pool.name} ({pool.spec.cidr}) has {len(claimed)} of {slot_count(pool)} blocks claimed ({holders}{more})"


def _of_node(blocks: Sequence[Block], holdings: Holdings, cooled: float) -> str:
    total = used = cooling = assignable = 0
    for block in blocks:
        released = holdings.released[block.cidr.version]
        total += block.cidr.num_addresses
        assignable += len(block.assignable)
        used += len(block.assignable.intersection(holdings.used[block.cidr.version]))
        cooling += sum(released[number] > cooled for number in block.assignable.intersection(released))
    return f"this node's {total} addresses there: {used} used, {cooling} cooling, {total - assignable} kept or reserved"
