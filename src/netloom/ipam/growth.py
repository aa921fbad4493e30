"""Growth: when a pool will run out of blocks, at the rate at which nodes have claimed them.  Pure.

Each agent looks now and then how many addresses of each pool are claimed (the whole cluster's, its snapshot says so) and keeps a few of
these looks: close ones of the last hours, ever fewer of the days before.  The rate is the difference to the oldest look of a week: what
is claimed in the morning and given back in the evening is no growth.  A look is one line; forty or so are a week.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from netloom.ipam.blocks import pool_of, slot_at, slot_count
from netloom.model.resources import IPPool
from netloom.model.snapshot import Snapshot

EVERY = 600.0  # seconds between looks
_LONGEST = 7 * 86400.0
_SPREAD = 12
"""A look of long ago stays if it is at least a twelfth of its age older than the one after it."""


class Look(msgspec.Struct, frozen=True):
    """`at`: seconds of the epoch; `claimed`: addresses, per pool."""

    at: float
    claimed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is to be expected of a pool.  `per_hour`: addresses that are claimed; `seconds` until none is free, None where it does not
    grow; `over`: seconds in which that was seen."""

    pool: str
    claimed: int
    per_hour: float
    over: float
    seconds: float | None


def look(at: float, snapshot: Snapshot) -> Look:
    return Look(at, claimed(snapshot))


def claimed(snapshot: Snapshot) -> dict[str, int]:
    """Addresses of each pool that nodes have claimed.  A network's pool is one node's."""
    found = {pool.name: 0 for pool in snapshot.pools.values() if not pool.spec.network}
    for block in snapshot.blocks.values():
        pool = pool_of(block.spec.cidr, snapshot.pools.values())
        if pool is not None and pool.name in found:
            found[pool.name] += sum(claim.cidr.num_addresses for claim in block.spec.claims)
    return found


def kept(looks: Iterable[Look], now: float) -> tuple[Look, ...]:
    """Those that are worth keeping, by time.  A clock that was set back takes away what lies in the future by it."""
    past = sorted((one for one in looks if now - _LONGEST <= one.at <= now), key=lambda one: one.at, reverse=True)
    found: list[Look] = []
    for one in past:
        if not found or found[-1].at - one.at >= max(EVERY, (now - one.at) / _SPREAD) * 0.99:
            found.append(one)
    if past and found[-1] is not past[-1]:
        found.append(past[-1])
    return tuple(reversed(found))


def outlook(pool: IPPool, now: Look, looks: Sequence[Look]) -> Outlook | None:
    """None: it is not known yet."""
    before = next((one for one in sorted(looks, key=lambda one: one.at) if pool.name in one.claimed), None)
    if before is None or now.at - before.at < EVERY:
        return None
    over, has = now.at - before.at, now.claimed.get(pool.name, 0)
    rate = (has - before.claimed[pool.name]) / over
    free = _size(pool) - has
    return Outlook(pool.name, has, rate * 3600, over, max(free, 0) / rate if rate > 0 else None)


def _size(pool: IPPool) -> int:
    return slot_count(pool) * slot_at(pool, 0).num_addresses


def history(looks: Sequence[Look]) -> bytes:
    return msgspec.json.encode(looks)


def read(data: bytes) -> tuple[Look, ...]:
    """Raises msgspec.MsgspecError, ValueError, RecursionError."""
    return msgspec.json.decode(data, type=tuple[Look, ...])


def known(pools: Mapping[str, IPPool], now: Look, looks: Sequence[Look]) -> list[Outlook]:
    """Of all pools of the cluster, the one that runs out first before the others, and what does not grow at the end."""
    found = [one for pool in pools.values() if not pool.spec.network and (one := outlook(pool, now, looks)) is not None]
    return sorted(found, key=lambda one: (one.seconds is None, one.seconds or 0.0, one.pool))
