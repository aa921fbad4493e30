"""Figures: how full pools are, for the message that says that one is, and for `netloom ipam show`.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netloom.ipam.blocks import Block, slot_count
from netloom.ipam.holdings import Holdings
from netloom.model.addresses import Address, Prefix, contains
from netloom.model.resources import IPBlock, IPPool


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """A pool in the whole cluster.

    slots, claimed   how many blocks it can be cut into, and how many have a claim in them
    by_node          blocks per node, most first
    used, reserved   addresses that pods hold; addresses that reservations hold back
    """

    name: str
    addresses: int
    slots: int
    claimed: int
    by_node: Mapping[str, int]
    used: int
    reserved: int

    @property
    def free_slots(self) -> int:
        return self.slots - self.claimed


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node's share of a pool: addresses in its blocks, and what became of them."""

    blocks: int
    addresses: int
    used: int
    cooling: int
    withheld: int

    @property
    def free(self) -> int:
        return self.addresses - self.used - self.cooling - self.withheld


def pool_figures(
    pool: IPPool, blocks: Iterable[IPBlock], used: Iterable[Address] = (), reserved: Iterable[Prefix] = ()
) -> PoolFigures:
    """`used` and `reserved` may name what lies in other pools."""
    cidr = pool.spec.cidr
    claimed = [b for b in blocks if b.spec.claims and contains(cidr, b.spec.cidr)]
    by_node = Counter(node for block in claimed for node in {claim.node for claim in block.spec.claims})
    return PoolFigures(
        name=pool.name,
        addresses=cidr.num_addresses,
        slots=slot_count(pool),
        claimed=len(claimed),
        by_node=dict(by_node.most_common()),
        used=len({address for address in used if address in cidr}),
        reserved=_withheld(cidr, reserved),
    )


def node_figures(blocks: Sequence[Block], holdings: Holdings, cooled: float) -> NodeFigures:
    """`cooled`: what was released before this has cooled down."""
    addresses = {number for block in blocks for number in _numbers(block)}
    version = blocks[0].cidr.version if blocks else 4
    released = holdings.released[version]
    used = addresses.intersection(holdings.used[version])
    assignable = frozenset[int]().union(*(block.assignable for block in blocks))
    return NodeFigures(
        blocks=len(blocks),
        addresses=len(addresses),
        used=len(used),
        cooling=sum(released[number] > cooled for number in assignable.intersection(released)),
        withheld=len(addresses - assignable - used),
    )


def exhaustion(node: str, wanting: Iterable[tuple[PoolFigures, NodeFigures]]) -> str:
    """The message: each pool with its figures, and who holds its blocks."""
    return f"node {node} finds no free address and no free block: " + "; ".join(
        f"pool {pool.name}: {pool.claimed} of {pool.slots} blocks are claimed ({_holders(pool.by_node)}), "
        f"this node has {own.addresses} addresses, {own.used} used, {own.cooling} cooling, {own.withheld} kept or reserved"
        for pool, own in wanting
    )


def _holders(by_node: Mapping[str, int], most: int = 5) -> str:
    named = ", ".join(f"{node} {count}" for node, count in list(by_node.items())[:most])
    more = len(by_node) - most
    return (named or "by nobody") + (f" and {more} more nodes" if more > 0 else "")


def _withheld(cidr: Prefix, reserved: Iterable[Prefix]) -> int:
    inside = [
        prefix if contains(cidr, prefix) else cidr for prefix in reserved if contains(cidr, prefix) or contains(prefix, cidr)
    ]
    return sum(prefix.num_addresses for prefix in _apart(inside))


def _apart(prefixes: Iterable[Prefix]) -> set[Prefix]:
    """Those that lie in no other."""
    every = set(prefixes)
    return {one for one in every if not any(other != one and contains(other, one) for other in every)}


def _numbers(block: Block) -> range:
    first = int(block.cidr.network_address)
    return range(first, first + block.cidr.num_addresses)
