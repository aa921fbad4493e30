"""Tables: parts of a Desired, being put together."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field

from netloom.model.addresses import Address, Mac, Prefix
from netloom.model.desired import (
    AddressKey,
    Desired,
    FdbKey,
    Filter,
    Link,
    NeighbourKey,
    Route,
    RouteKey,
    SenderKey,
    Shaping,
    TunnelKey,
)
from netloom.model.forms import Use
from netloom.model.routing import BgpConfig


@dataclass(slots=True)
class Tables:
    """`lasting`, `left`, `tunnelled`: prefixes of other nodes to which our routes lead, as BIRD's do not yet; to which BIRD's lead as yet;
    to which they must not (`calc.bgp.taking`).  `vteps`: what nodes send from.

    Where thousands of nodes were put together (`calc.merging`), the large ones are edited mappings, and nothing is added to them."""

    links: dict[str, Link] = field(default_factory=dict)
    addresses: dict[AddressKey, None] = field(default_factory=dict)
    routes: dict[RouteKey, Route] = field(default_factory=dict)
    neighbours: dict[NeighbourKey, Mac] = field(default_factory=dict)
    fdb: dict[FdbKey, Address] = field(default_factory=dict)
    tunnels: dict[TunnelKey, Address] = field(default_factory=dict)
    senders: dict[SenderKey, Address | None] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    shaping: dict[str, Shaping] = field(default_factory=dict)
    uses: dict[tuple[str, str], Use] = field(default_factory=dict)
    lasting: list[Prefix] = field(default_factory=list)
    left: list[Prefix] = field(default_factory=list)
    tunnelled: list[Prefix] = field(default_factory=list)
    vteps: frozenset[Address] = frozenset()
    bgp: BgpConfig | None = None
    problems: list[str] = field(default_factory=list)

    def add(self, part: Tables) -> None:
        self.links |= part.links
        self.addresses |= part.addresses
        self.routes |= part.routes
        self.neighbours |= part.neighbours
        self.fdb |= part.fdb
        self.tunnels |= part.tunnels
        self.senders |= part.senders
        self.sysctls |= part.sysctls
        self.shaping |= part.shaping
        self.uses |= part.uses
        self.lasting += part.lasting
        self.left += part.left
        self.tunnelled += part.tunnelled
        self.problems += part.problems

    def over(self, below: Tables, rules: Filter) -> Desired:
        """Both as one.  The large tables stay two layers, so that who compares them may keep what it knows of the lower one."""
        return Desired(
            links=below.links | self.links,
            addresses=ChainMap(self.addresses, below.addresses),
            routes=ChainMap(self.routes, below.routes),
            neighbours=ChainMap(self.neighbours, below.neighbours),
            fdb=ChainMap(self.fdb, below.fdb),
            tunnels=below.tunnels,
            senders=below.senders,
            sysctls=self.sysctls | below.sysctls,
            shaping=below.shaping | self.shaping,
            filter=rules,
            uses=below.uses,
            bgp=below.bgp,
            problems=(*below.problems, *self.problems),
        )
