"""Choosing: which addresses a new attachment gets.  Pure: from the node's blocks and holdings, without the datastore.

One address per family that the pools offer, all or nothing.  Inside a block the one that was never used comes first, then
the one that was released longest ago; blocks are filled one after the other, so that others may run empty and be given back.
Taken, kept, reserved and cooling addresses are passed over.  A block that was claimed for one address is left to who asks for that.

A block is used in one way at a time: its pods are routed, or they are ports of one bridge.  A bridge takes the whole block for its
own link, so elsewhere on the node its addresses would not be reached.

An address asked for by name is given even if it is reserved or still cooling (a pod that owns its address comes back with
it), but never if it is taken or kept.  If none of our blocks has what is needed, the answer is `NeedBlock`: claim, try again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from netloom.errors import ConfigError, Unavailable
from netloom.ipam.blocks import Block, gateway, kept, slot_at, slot_of
from netloom.ipam.holdings import Holdings
from netloom.ipam.room import few, room, unused
from netloom.model.addresses import Address, Interface, Prefix, host_prefix
from netloom.model.attachments import Attachment, Wiring
from netloom.model.resources import IPPool

FAMILIES = (4, 6)


@dataclass(frozen=True, slots=True)
class Request:
    """addresses  asked for by name, at most one per family
    pools      per family: only these pools, by name; none at all (an empty tuple): no address of this family.
               A family that is not in it takes any pool that suits.
    namespace  None: any, for who asks whether there is an address at all
    bridge     whose port the pod will be; None: it is routed
    network    the CNI network: where it has pools of its own, those that suit are these
    own        it has pools of its own, or will have
    """

    namespace: str | None = "default"
    addresses: tuple[Address, ...] = ()
    pools: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    bridge: str | None = None
    network: str = ""
    own: bool = False

    @property
    def wiring(self) -> Wiring:
        return Wiring.BRIDGE if self.bridge else Wiring.ROUTED


@dataclass(frozen=True, slots=True)
class NeedBlock:
    """A block in one of these pools (in this order), or, with `cidr`, this one: the slot or the block of one for an address
    that was asked for by name.

    `held` is what the node had when this was answered: if it has something else by now, trying again comes first.
    `whole`: a part of a slot will not do.
    """

    pools: tuple[IPPool, ...]
    cidr: Prefix | None = None
    held: frozenset[Prefix] = frozenset()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """What a choice is made from.

    pools    per family: those that serve the pod, in order of preference
    blocks   per pool name: this node's blocks that give out addresses
    cooled   an address that was released before this (seconds of CLOCK_BOOTTIME) has cooled down
    """

    pools: Mapping[int, Sequence[IPPool]]
    blocks: Mapping[str, Sequence[Block]]
    holdings: Holdings
    cooled: float


def choose(request: Request, situation: Situation) -> tuple[Interface, ...] | NeedBlock:
    """Interfaces with the prefix length that the pod shows: the host's alone when routed, the block's on a bridge, or the whole
    pool's where it is a network's own.

    Raises ConfigError where no claim can help; Unavailable: somebody has the address that was asked for.
    """
    wanted, elsewhere = _by_family(request.addresses), _elsewhere(request, situation.holdings)
    chosen: list[Interface] = []
    for version in FAMILIES:
        pools = situation.pools.get(version, ())
        if version in wanted:
            found = _named(wanted[version], pools, request.wiring, situation, elsewhere)
        elif pools:
            found = _next(pools, request.wiring, situation, elsewhere)
        else:
            continue
        if isinstance(found, NeedBlock):
            return found
        chosen.append(found)
    return tuple(chosen)


def lacking(request: Request, situation: Situation) -> NeedBlock | None:
    """A block that pods like this one will need soon: those that they have addresses of are nearly full.  None: there is room, or
    there is a block that nobody uses yet, however much room it has."""
    named, elsewhere = _by_family(request.addresses), _elsewhere(request, situation.holdings)
    for version in FAMILIES:
        claimable = _claimable(situation.pools.get(version, ()), request.wiring)
        if version in named or not claimable:
            continue
        usable = list(_usable(situation.pools[version], request.wiring, situation, elsewhere))
        enough = few(slot_at(claimable[0], 0))
        if not any(unused(block, situation.holdings) for block in usable) and enough > sum(
            room(block, situation.holdings, situation.cooled) for block in usable
        ):
            return NeedBlock(claimable)
    return None


def _by_family(addresses: tuple[Address, ...]) -> dict[int, Address]:
    wanted: dict[int, Address] = {address.version: address for address in addresses}
    if len(wanted) != len(addresses):
        raise ConfigError(f"{', '.join(map(str, addresses))}: at most one address per family may be asked for")
    return wanted


def _elsewhere(request: Request, holdings: Holdings) -> tuple[Attachment, ...]:
    """Those that are routed, where the request is for a bridge, and the other way round, or are ports of another one."""
    if holdings.bridges.keys() <= {request.bridge}:
        return ()
    return tuple(a for a in holdings.attachments.values() if a.bridge != request.bridge)


def _user(block: Block, elsewhere: Sequence[Attachment]) -> Attachment | None:
    """One of them that has an address of the block."""
    return next((a for a in elsewhere for i in a.addresses if i.ip in block.cidr), None)


def _next(
    pools: Sequence[IPPool], wiring: Wiring, situation: Situation, elsewhere: Sequence[Attachment]
) -> Interface | NeedBlock:
    for block in _usable(pools, wiring, situation, elsewhere):
        number = least_recent(block, situation.holdings, situation.cooled)
        if number is not None:
            return _interface(number, block, wiring)
    claimable = _claimable(pools, wiring)
    if not claimable:
        names = ", ".join(pool.name for pool in pools)
        raise ConfigError(f"bridge wiring takes an address of each block as gateway, and the blocks of {names} are too small")
    return NeedBlock(claimable, whole=wiring is Wiring.BRIDGE or any(pool.spec.network for pool in claimable))


def _usable(pools: Sequence[IPPool], wiring: Wiring, situation: Situation, elsewhere: Sequence[Attachment]) -> Iterator[Block]:
    """Blocks that such a pod may have an address of, in the order in which they are filled."""
    for pool in pools:
        for block in situation.blocks.get(pool.name, ()):
            bridgeable = wiring is Wiring.ROUTED or block.gateway
            if bridgeable and not _is_single(block, pool) and not _user(block, elsewhere):
                yield block


def _claimable(pools: Sequence[IPPool], wiring: Wiring) -> tuple[IPPool, ...]:
    return tuple(pool for pool in pools if wiring is Wiring.ROUTED or _has_gateways(pool))


def _is_single(block: Block, pool: IPPool) -> bool:
    """Claimed for one address that somebody asked for."""
    return not block.is_dense and block.cidr.prefixlen == block.cidr.max_prefixlen != pool.spec.block_size


def least_recent(block: Block, holdings: Holdings, cooled: float) -> int | None:
    """The address of the block that comes next; None: each is taken, or has not cooled down yet."""
    used, released = holdings.used[block.cidr.version], holdings.released[block.cidr.version]
    free = block.assignable.difference(used)
    fresh = free.difference(released)
    if fresh:
        return min(fresh)
    oldest = min(free, key=released.__getitem__, default=None)
    return oldest if oldest is not None and released[oldest] <= cooled else None


def _named(
    address: Address, pools: Sequence[IPPool], wiring: Wiring, situation: Situation, elsewhere: Sequence[Attachment]
) -> Interface | NeedBlock:
    pool = next((pool for pool in pools if address in pool.spec.cidr), None)
    if pool is None:
        serving = ", ".join(f"{p.name} ({p.spec.cidr})" for p in pools) or "none"
        raise ConfigError(f"{address} is in no pool that serves the pod; these do: {serving}", hint="netloom get ippools")
    slot = slot_of(pool, address)
    if address in kept(slot, pool):
        whole, owner = (pool.spec.cidr, "network") if pool.spec.network else (slot, "node")
        raise ConfigError(f"{address} is kept: in {whole} it is the {owner}'s, the gateway's, or broadcast")
    if holder := situation.holdings.holder(address):
        owner = f"{holder.namespace}/{holder.pod or holder.key.container_id}"
        raise Unavailable(f"{address} is in use by {owner}", hint=f"netloom ipam find {address}")
    block = next((block for block in situation.blocks.get(pool.name, ()) if address in block.cidr), None)
    if block and (other := _user(block, elsewhere)):
        way = f"are on bridge {other.bridge}" if other.bridge else "are routed"
        raise ConfigError(
            f"{address} is in block {block.cidr}, whose pods on this node {way}", hint=f"netloom ipam find {address}"
        )
    if wiring is Wiring.ROUTED:
        return _interface(int(address), block, wiring) if block else NeedBlock((pool,), host_prefix(address))
    if not _has_gateways(pool):
        raise ConfigError(f"{address} cannot be on a bridge: its block has no room for a gateway")
    return _interface(int(address), block, wiring) if block and block.gateway else NeedBlock((pool,), slot)


def _has_gateways(pool: IPPool) -> bool:
    return gateway(slot_at(pool, 0), pool) is not None


def _interface(number: int, block: Block, wiring: Wiring) -> Interface:
    length = block.link.prefixlen if wiring is Wiring.BRIDGE else block.cidr.max_prefixlen
    kind = ipaddress.IPv4Interface if block.cidr.version == 4 else ipaddress.IPv6Interface
    return kind((number, length))
