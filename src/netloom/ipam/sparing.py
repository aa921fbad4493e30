"""Sparing: which of a node's blocks it can give back.  Pure.

A block is spare when no attachment holds an address of it, none of its addresses is cooling, and it has been so for a grace.
The block with the node's own tunnel address stays.  And the next pod should not have to wait for a claim: while the blocks that stay
have little room for pods of one kind, one whole idle block stays beside them.  Kinds are told apart by what a block can serve: a
family, for the cluster or for a network that has a pool of its own, and routed pods or those of one bridge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from netloom.ipam.blocks import Block
from netloom.ipam.claims import Held
from netloom.ipam.holdings import Holdings
from netloom.ipam.room import few, room
from netloom.model.addresses import Address, Prefix

Purpose = tuple[str, int]
"""Network (empty: the cluster) and family."""


def spare(
    held: Iterable[Held],
    holdings: Holdings,
    *,
    blocks: Mapping[Prefix, Block],
    quiet_since: Mapping[Prefix, float],
    before: float,
    cooled: float,
    pinned: Collection[Address],
    serves: Callable[[Prefix], str | None],
) -> tuple[Held, ...]:
    """blocks       those that give out addresses
    quiet_since  when the node got each block, where it was not always there
    before       a block that was quiet from then on is spare (seconds of CLOCK_BOOTTIME: now less grace and cool-down)
    cooled       what was released before this has cooled down
    pinned       addresses that the node itself uses
    serves       the network whose pool a block is of, empty for the cluster; None where the pool is not in use
    """
    staying: list[Held] = []
    idle: list[Held] = []
    for one in held:
        at_rest = _last_use(one.cidr, holdings, quiet_since.get(one.cidr, float("-inf"))) <= before
        busy = not at_rest or any(address in one.cidr for address in pinned)
        (staying if busy else idle).append(one)
    rooms: dict[Purpose, dict[str | None, int]] = defaultdict(lambda: defaultdict(int))
    for one in staying:
        if (purpose := _purpose(one, serves)) is not None and (block := blocks.get(one.cidr)):
            rooms[purpose][_way(one.cidr, holdings)] += room(block, holdings, cooled)
    for one in tuple(idle):
        purpose = _purpose(one, serves)
        if purpose is not None and not _suffices(
            rooms[purpose], 2 * few(one.slot)
        ):  # twice: else the next pod would claim it again
            rooms[purpose][_ANY] = one.slot.num_addresses
            idle.remove(one)
    return tuple(idle)


_ANY = None
"""The way of a block that no pod uses: it may be used in any."""


def _suffices(rooms: Mapping[str | None, int], enough: int) -> bool:
    anywhere = rooms.get(_ANY, 0)
    return bool(rooms) and all(found + (anywhere if way is not _ANY else 0) >= enough for way, found in rooms.items())


def _way(cidr: Prefix, holdings: Holdings) -> str | None:
    """The bridge whose ports the pods of a block are; empty: they are routed, or all on this node are of one kind."""
    if len(holdings.bridges) <= 1:
        return ""  # all are alike
    users = (a for a in holdings.attachments.values() if any(i.ip in cidr for i in a.addresses))
    return next((a.bridge or "" for a in users), _ANY)


def _purpose(held: Held, serves: Callable[[Prefix], str | None]) -> Purpose | None:
    """What the next pod could have an address of it for."""
    network = serves(held.cidr)
    return None if network is None or held.cidr != held.slot or held.contested else (network, held.cidr.version)


def _last_use(cidr: Prefix, holdings: Holdings, since: float) -> float:
    """Infinity while an address is in use."""
    first, end = int(cidr.network_address), int(cidr.broadcast_address) + 1
    if any(first <= number < end for number in holdings.used[cidr.version]):
        return float("inf")
    stamps = (at for number, at in holdings.released[cidr.version].items() if first <= number < end)
    return max((since, *stamps))
