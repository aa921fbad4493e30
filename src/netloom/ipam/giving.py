"""Giving: what a node can part with when another one finds no free block (decision 0014).  Pure.

    n2: IPBlockRequest {pools: {p: 0}}      n1 holds 10.0.0.0/28, a pod has .3
                                            n1: 10.0.0.0/29          n2: 10.0.0.8/29

A request says how many addresses of each pool its node held when it asked; a node that holds more by now has been answered.  So a
request is answered about once, whoever sees it, however often, and if the one who asked is dead.

A block is split, never shared: what is given is the largest aligned piece of it in which no address is in use, cooling or the node's
own, and at most a half; of a block of one, that one.  A block that has ports of a bridge is one link, and stays whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from netloom.ipam.blocks import pool_of, unreserved
from netloom.ipam.claims import Held
from netloom.ipam.holdings import Holdings
from netloom.ipam.parts import rest, unused
from netloom.model.addresses import Address, Prefix, contains
from netloom.model.resources import Claim, IPBlockRequest
from netloom.model.snapshot import Snapshot

_STEP, _SPREAD = 0.03, 0.03
"""Seconds that a node waits for others who have more to give: for each halving, and by its name."""


@dataclass(frozen=True, slots=True)
class Gift:
    """`part` of what is `held` goes to another node; `left`: what stays."""

    held: Held
    part: Prefix

    @property
    def left(self) -> tuple[Held, ...]:
        return tuple(Held(cidr=cidr, slot=self.held.slot, dense=True) for cidr in rest(self.held.cidr, self.part))


def gift(
    held: Iterable[Held], holdings: Holdings, cooled: float, own: Collection[Address], reserved: Collection[Prefix]
) -> Gift | None:
    """The largest there is.  `held`: what gives out addresses of the pool; `cooled`: what was released before this has cooled down;
    `own`: addresses that the node itself uses."""
    found: list[Gift] = []
    for one in held:
        version = one.cidr.version
        if bridged(one, holdings):
            continue
        taken = {*holdings.used[version], *(number for number, at in holdings.released[version].items() if at > cooled)}
        taken.update(int(address) for address in own if address.version == version)
        for piece in unused(one.cidr, taken):
            part = max(piece.subnets(), key=_last) if piece == one.cidr and piece.num_addresses > 1 else piece
            if unreserved(part, reserved):
                found.append(Gift(one, part))
    return min(found, key=lambda g: (g.part.prefixlen, -int(g.part.network_address)), default=None)


def bridged(held: Held, holdings: Holdings) -> bool:
    """Whether ports of a bridge have addresses of it."""
    if holdings.bridges.keys() <= {None}:
        return False
    ports = (a for a in holdings.attachments.values() if a.bridge is not None)
    return any(i.ip in held.cidr for a in ports for i in a.addresses)


def _last(prefix: Prefix) -> int:
    return int(prefix.network_address)


def patience(part: Prefix, slot: Prefix, giver: str) -> float:
    """Seconds until it is given, unless somebody else has: who has more to give comes first, and of those that have the same one."""
    share = int.from_bytes(hashlib.sha256(f"{giver} {slot}".encode()).digest()[:2]) / (1 << 16)
    return _STEP * (part.prefixlen - slot.prefixlen) + _SPREAD * share


def open_requests(snapshot: Snapshot, node: str) -> list[IPBlockRequest]:
    """Those of other nodes that nobody has answered yet.  Of a node that is gone, or that has become another one, there are none."""
    asking = {r.name: r for r in snapshot.requests.values() if r.name != node and _lives(r, snapshot)}
    if not asking:
        return []
    has = holdings_of({(r.name, r.spec.node_id) for r in asking.values()}, snapshot)
    return [r for r in asking.values() if all(has[r.name, pool] <= before for pool, before in r.spec.pools.items())]


def _lives(request: IPBlockRequest, snapshot: Snapshot) -> bool:
    node = snapshot.nodes.get(request.name)
    return node is not None and node.spec.id == request.spec.node_id


def holdings_of(nodes: Collection[tuple[str, str]], snapshot: Snapshot) -> Counter[tuple[str, str]]:
    """How many addresses each of these nodes, by name and identity, has claimed, per pool.  What another machine of that name has left is
    of no use to it."""
    found = Counter[tuple[str, str]]()
    for block in snapshot.blocks.values():
        for claim in block.spec.claims:
            if (claim.node, claim.node_id) in nodes and (pool := pool_of(block.spec.cidr, snapshot.pools.values())) is not None:
                found[claim.node, pool.name] += claim.cidr.num_addresses
    return found


def unknown_slots(snapshot: Snapshot, owns: Callable[[Claim], bool], held: Collection[Prefix]) -> list[Prefix]:
    """Slots in which the datastore says that something is ours that we have not in use: so it was given to us."""
    return [
        block.spec.cidr
        for block in snapshot.blocks.values()
        if any(owns(claim) and not any(contains(cidr, claim.cidr) for cidr in held) for claim in block.spec.claims)
    ]
