"""Sparing: which of a node's blocks it can give back.  Pure.

A block is spare when no attachment holds an address of it, none of its addresses is cooling, and it has been so for a grace.
The block with the node's own tunnel address stays, and of each family one whole block stays while its pool is in use, for
the cluster and for each network that has a pool of its own: the next pod should not have to wait for a claim.
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
    serves: Callable[[Prefix], str | None],
) -> tuple[Held, ...]:
    """quiet_since  when the node got each block, where it was not always there
    before       a block that was quiet from then on is spare (seconds of CLOCK_BOOTTIME: now less grace and cool-down)
    pinned       addresses that the node itself uses
    serves       the network whose pool a block is of, empty for the cluster; None where the pool is not in use
    """
    staying: list[Held] = []
    idle: list[Held] = []
    for held in blocks:
        at_rest = _last_use(held.cidr, holdings, quiet_since.get(held.cidr, float("-inf"))) <= before
        busy = not at_rest or any(address in held.cidr for address in pinned)
        (staying if busy else idle).append(held)
    at_hand = {_purpose(held, serves) for held in staying}
    for held in tuple(idle):
        purpose = _purpose(held, serves)
        if purpose is not None and purpose not in at_hand:
            at_hand.add(purpose)
            idle.remove(held)
    return tuple(idle)


def _purpose(held: Held, serves: Callable[[Prefix], str | None]) -> tuple[str, int] | None:
    """Network and family that the next pod could have an address of it for."""
    network = serves(held.cidr)
    return None if network is None or held.cidr != held.slot or held.contested else (network, held.cidr.version)


def _last_use(cidr: Prefix, holdings: Holdings, since: float) -> float:
    """Infinity while an address is in use."""
    first, end = int(cidr.network_address), int(cidr.broadcast_address) + 1
    if any(first <= number < end for number in holdings.used[cidr.version]):
        return float("inf")
    stamps = (at for number, at in holdings.released[cidr.version].items() if first <= number < end)
    return max((since, *stamps))
