"""The view: what follows for a node from its claims, the pools and the reservations, computed anew whenever one of them changes.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from netloom.ipam.blocks import Block, pool_of
from netloom.ipam.claims import Claims
from netloom.model.addresses import Address, Prefix
from netloom.model.resources import IPPool
from netloom.model.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class View:
    """pools      by name
    blocks     per pool: those that give out addresses
    disputed   blocks of ours that other nodes have pods in, and which node
    reserved   prefixes of all reservations
    networks   that have pools of their own
    own_pools  of those networks
    since      when each block came, by the allocator's clock
    """

    pools: tuple[IPPool, ...] = ()
    blocks: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)
    disputed: Mapping[Prefix, str] = field(default_factory=dict)
    reserved: tuple[Prefix, ...] = ()
    networks: frozenset[str] = frozenset()
    own_pools: frozenset[str] = frozenset()
    since: Mapping[Prefix, float] = field(default_factory=dict)

    def serves(self, cidr: Prefix) -> str | None:
        """The network that the block serves, empty for the cluster; None where its pool is not in use."""
        pool = pool_of(cidr, self.pools)
        return None if pool is None or pool.spec.disabled or cidr in self.disputed else pool.spec.network


def view(
    claims: Claims, snapshot: Snapshot, disputed: Mapping[Prefix, str], own: Collection[Address], before: View, now: float
) -> View:
    """`own`: addresses that the node itself uses."""
    pools = tuple(sorted(snapshot.pools.values(), key=lambda p: p.name))
    reserved = tuple(prefix for r in snapshot.reservations.values() for prefix in r.spec.reserved_cidrs)
    blocks: dict[str, tuple[Block, ...]] = {}
    for held in claims.held:
        pool = pool_of(held.cidr, pools)
        if pool and not held.contested and held.cidr not in disputed:
            if held.is_dense:
                block = Block.dense(held.cidr, pool.name, reserved, own)
            else:
                block = Block.of(held.cidr, pool.name, reserved, pool if pool.spec.network else None)
            blocks[pool.name] = (*blocks.get(pool.name, ()), block)
    return View(
        pools=pools,
        blocks=blocks,
        disputed=disputed,
        reserved=reserved,
        networks=frozenset(pool.spec.network for pool in pools if pool.spec.network),
        own_pools=frozenset(pool.name for pool in pools if pool.spec.network),
        since={held.cidr: before.since.get(held.cidr, now) for held in claims.held},
    )
