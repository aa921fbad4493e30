"""How full pools and blocks are, in figures; as rows of a table, and as they are for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netloom.cli.printing import duration
from netloom.model.addresses import Prefix, contains

if TYPE_CHECKING:
    from netloom.ipam.audit import Records
    from netloom.ipam.growth import Outlook
    from netloom.model.resources import Encapsulation

POOL_COLUMNS = ("POOL", "CIDR", "ENCAPSULATION", "USED", "BLOCKS", "NODES", "DISABLED")
BLOCK_COLUMNS = ("BLOCK", "POOL", "NODE", "SIZE", "USED", "FREE")


@dataclass(frozen=True, slots=True)
class PoolUse:
    """`used` of `addresses`, in `blocks` of `slots`; `nodes` have them.  `claimed_per_hour`, in addresses, and `runs_out_seconds`: where
    it is known, and where it grows."""

    name: str
    cidr: Prefix
    encapsulation: Encapsulation
    used: int
    addresses: int
    blocks: int
    slots: int
    nodes: int
    disabled: bool
    claimed_per_hour: float | None = None
    runs_out_seconds: float | None = None

    def row(self) -> tuple[object, ...]:
        figures = (_of(self.used, self.addresses), _of(self.blocks, self.slots))
        return self.name, self.cidr, self.encapsulation, *figures, self.nodes, self.disabled


@dataclass(frozen=True, slots=True)
class BlockUse:
    """`size` counts addresses that are kept (the node's, the gateway's, broadcast) too; `pool` is empty where it is gone."""

    cidr: Prefix
    pool: str
    node: str
    size: int
    used: int
    free: int

    def row(self) -> tuple[object, ...]:
        return self.cidr, self.pool, self.node, self.size, self.used, self.free


def pools(records: Records, outlooks: Mapping[str, Outlook] | None = None) -> Iterator[PoolUse]:
    from netloom.ipam.blocks import slot_count

    for pool in records.cluster.pools.values():
        cidr = pool.spec.cidr
        blocks = [b for b in records.cluster.blocks.values() if b.spec.claims and contains(cidr, b.spec.cidr)]
        yield PoolUse(
            name=pool.name,
            cidr=cidr,
            encapsulation=pool.spec.encapsulation,
            used=sum(address.version == cidr.version and address in cidr for address in records.holders),
            addresses=cidr.num_addresses,
            blocks=len(blocks),
            slots=slot_count(pool),
            nodes=len({claim.node for block in blocks for claim in block.spec.claims}),
            disabled=pool.spec.disabled,
            claimed_per_hour=outlook.per_hour if (outlook := (outlooks or {}).get(pool.name)) else None,
            runs_out_seconds=outlook.seconds if outlook else None,
        )


def in_words(outlooks: Sequence[Outlook]) -> Iterator[str]:
    """When they will run out, the first one first."""
    for one in outlooks:
        rate = f"{one.per_hour:.3g} addresses an hour have been claimed in the last {duration(one.over)}"
        if one.seconds is not None:
            when = f"will run out of free blocks in {duration(one.seconds)}" if one.seconds else "has no free block"
            yield f"pool {one.pool} {when}: {rate}"
    if outlooks and all(one.seconds is None for one in outlooks):
        yield f"no growth: no pool has more claimed than {duration(max(one.over for one in outlooks))} ago"


def blocks(records: Records) -> Iterator[BlockUse]:
    from netloom.ipam.blocks import kept, pool_of

    used = Counter(claim.cidr for claim in records.claims.values())
    for block in records.cluster.blocks.values():
        pool = pool_of(block.spec.cidr, records.cluster.pools.values())
        for claim in block.spec.claims:
            size, taken = claim.cidr.num_addresses, used[claim.cidr]
            own = [a for node in records.cluster.nodes.values() for a in node.spec.tunnel_addresses if node.name == claim.node]
            idle = own if claim.cidr != block.spec.cidr else kept(claim.cidr, pool)
            free = size - taken - sum(a in claim.cidr and a not in records.holders for a in idle)
            yield BlockUse(claim.cidr, pool.name if pool else "", claim.node, size, taken, free)


def _of(part: int, whole: int) -> str:
    """`41/65536 (0%)`; of a whole that no one counts to, the part alone."""
    return f"{part}/{whole} ({100 * part // whole}%)" if whole < 1 << 32 else str(part)
