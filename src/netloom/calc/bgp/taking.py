"""Taking: which routes to other nodes are BIRD's, which the agent's, and how one takes over from the other while packets flow.

    pool                    BIRD's                            the agent's
    None                    all                               none
    …CrossSubnet            to neighbours                     beyond, through the tunnel
    VXLAN, IPIP, UDP        none                              all

BIRD's metrics are lower, and the two never share one.  So what is new goes in beside what is there, and then that goes:

    agent → BIRD     a route of the agent's that stands stays until BIRD's is in the kernel (`Host.lasting`); none is made anew
    BIRD → agent     the agent's is made, beside BIRD's; BIRD keeps what is in the kernel (`left`) until the agent has its way there
    BIRD → BIRD      sessions end, or begin anew: the agent keeps where BIRD's routes led behind them for a while (`Host.standby`)

BIRD tells neighbours by their addresses.  A node that looks like one and is none (`Host.far`) is named to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netloom.calc import metrics
from netloom.calc.encap.peer import Peer
from netloom.calc.forms import DIRECT
from netloom.model.addresses import Prefix, contains
from netloom.model.desired import Route, RouteKey
from netloom.model.forms import Form, Use
from netloom.model.host import Host
from netloom.model.resources import Encapsulation, IPPool

BIRDS = Use(DIRECT, DIRECT, bird=True)
"""BIRD's affair."""


def rest(host: Host, peer: Peer) -> Peer | None:
    """A peer of a pool that is BIRD's, with the prefixes whose routes are the agent's all the same; None: there are none."""
    prefixes = tuple(prefix for prefix in peer.prefixes if prefix in host.lasting)
    return replace(peer, prefixes=prefixes) if prefixes else None


def leads(host: Host, peer: Peer, form: Form) -> bool:
    """Whether BIRD's routes lead to all of the peer's prefixes, in this form."""
    return form == DIRECT and bool(host.birds) and all(prefix in host.birds for prefix in peer.prefixes)


def led(host: Host, peer: Peer) -> list[Prefix]:
    """Prefixes of a pool that is the agent's, to which BIRD's routes lead as yet."""
    return [prefix for prefix in peer.prefixes if prefix in host.birds]


def standing_by(host: Host) -> Iterator[tuple[RouteKey, Route]]:
    for prefix, route in host.standby.items():
        uplink = host.uplinks.get(route.device)
        if route.gateway is not None and uplink is not None and uplink.up and not any(contains(b, prefix) for b in host.blocks):
            yield RouteKey(prefix, metrics.standby_metric(route.gateway)), route


def parted(pools: Iterable[IPPool]) -> tuple[list[IPPool], list[IPPool]]:
    """Pools with routes that are BIRD's, and those with routes that are the agent's; …CrossSubnet are among both."""
    shared = [pool for pool in pools if not pool.spec.network]
    birds = [pool for pool in shared if pool.spec.encapsulation.cross_subnet or pool.spec.encapsulation is Encapsulation.NONE]
    return birds, [pool for pool in shared if pool.spec.encapsulation is not Encapsulation.NONE]
