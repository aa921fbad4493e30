"""Room: how many addresses of a block pods could be given now, and when that is little.  Pure."""

from __future__ import annotations

from netloom.ipam.blocks import Block
from netloom.ipam.holdings import Holdings
from netloom.model.addresses import Prefix

_MOST = 16
"""What a node gives out in the time that a claim may take."""


def room(block: Block, holdings: Holdings, cooled: float) -> int:
    """`cooled`: what was released before this has cooled down."""
    free = block.assignable.difference(holdings.used[block.cidr.version])
    released = holdings.released[block.cidr.version]
    return sum(number not in released or released[number] <= cooled for number in free)


def unused(block: Block, holdings: Holdings) -> bool:
    return block.assignable.isdisjoint(holdings.used[block.cidr.version])


def few(slot: Prefix) -> int:
    """With fewer addresses left it is time to claim the next block; none of slots that hold one or two."""
    return min(_MOST, slot.num_addresses // 4)
