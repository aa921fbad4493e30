"""Sparing: which of a node's blocks it can give back.  Pure.

A block is spare when no attachment holds an address of it, none of its addresses is cooling, and it has been so for a grace.
The block with the node's own tunnel address stays, and of each family one whole block stays while its pool is in use: the
next pod should not have to wait for a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from netloom.ipam.claims import Held
from netloom.ipam.holdings import Holdings
from netloom.model.addresses import Address, Prefix


def spare(
    blocks: Iterable[Held],
    holdings: Holdings,
    *,
    quiet_since: Mapping[Prefix, float],
    before: float,
    pinned: Collection[Address],
    pool_in_use: Callable[[Prefix], bool],
) -> tuple[Held, ...]:
    """quiet_since  when the node got each block, where it was not always there
    before       a block that was quiet from then on is spare (seconds of CLOCK_BOOTTIME: now less grace and cool-down)
    pinned       addresses that the node itself uses
    """
    staying: list[Held] = []
    idle: list[Held] = []
    for held in blocks:
        at_rest = _last_use(held.cidr, holdings, quiet_since.get(held.cidr, float("-inf"))) <= before
        busy = not at_rest or any(address in held.cidr for address in pinned)
        (staying if busy else idle).append(held)
    for version in (4, 6):
        if not any(_useful(held, version, pool_in_use) for held in staying):
            one = next((held for held in idle if _useful(held, version, pool_in_use)), None)
            if one:
                idle.remove(one)
    return tuple(idle)


def _useful(held: Held, version: int, pool_in_use: Callable[[Prefix], bool]) -> bool:
    return held.cidr.version == version and held.cidr == held.slot and not held.contested and pool_in_use(held.cidr)


def _last_use(cidr: Prefix, holdings: Holdings, since: float) -> float:
    """Infinity while an address is in use."""
    first, end = int(cidr.network_address), int(cidr.broadcast_address) + 1
    if any(first <= number < end for number in holdings.used[cidr.version]):
        return float("inf")
    stamps = (at for number, at in holdings.released[cidr.version].items() if first <= number < end)
    return max((since, *stamps))
