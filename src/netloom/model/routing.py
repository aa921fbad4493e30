"""Routing: what one node's BIRD should do, as a value.  `calc.bgp` computes it, `bgp` writes it down as a `bird.conf`.

    announced   what this node tells its peers: its own blocks, and prefixes and services that the configuration names
    sessions    whom it tells, and what it believes of what they say
    filters     the BGPFilters that sessions name, rule by rule

Every value here has been validated where it was decoded; names of sessions are made of letters, digits and `_`.  A password is
only named here (`Secret`): whoever writes the file looks it up, so that no value, log line or status ever holds one.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from netloom.model.addresses import Address, Prefix


class Community(NamedTuple):
    """Standard (RFC 1997): two numbers of 16 bits.  Large (RFC 8092): three of 32 bits."""

    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return ":".join(map(str, self.numbers))


class Secret(NamedTuple):
    """Where a password is found."""

    name: str
    key: str


class NextHop(enum.Enum):
    """What a session tells its peer to send to.  AUTO: as BGP has it; KEEP: as it was learned; SELF: this node."""

    AUTO = "Auto"
    KEEP = "Keep"
    SELF = "Self"


class Match(enum.Enum):
    """How a rule's prefix is compared with a route's (BGPFilter `matchOperator`)."""

    EQUAL = "Equal"
    NOT_EQUAL = "NotEqual"
    IN = "In"
    NOT_IN = "NotIn"


@dataclass(frozen=True, slots=True)
class Change:
    """What a rule does to a route that it accepts.  One of the fields is set."""

    add_community: Community | None = None
    prepend: tuple[int, ...] = ()
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class FilterRule:
    """All that is set has to hold.  `lengths`: of prefixes, both ends included.  `learned`: only routes that other peers told.
    `external`: only eBGP sessions (True), only iBGP ones (False)."""

    accept: bool
    prefix: Prefix | None = None
    match: Match = Match.IN
    lengths: tuple[int, int] | None = None
    learned: bool = False
    interface: str = ""
    external: bool | None = None
    communities: tuple[Community, ...] = ()
    path: tuple[int, ...] = ()
    priority: int | None = None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteFilter:
    """A BGPFilter: rules by family.  The first that matches decides; none: the session's own rule does."""

    imports: Mapping[int, tuple[FilterRule, ...]] = field(default_factory=dict)
    exports: Mapping[int, tuple[FilterRule, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bfd:
    """Bidirectional Forwarding Detection (RFC 5880): a peer is gone after `multiplier` intervals without a word; milliseconds."""

    interval: int = 300
    multiplier: int = 3


class Trust(enum.Enum):
    """What is believed of a peer, before its filters.  POOLS: the cluster's pods, from their own nodes or a reflector.  ANYTHING: all
    but this node's own blocks, as from a router of the fabric."""

    POOLS = "pools"
    ANYTHING = "anything"


@dataclass(frozen=True, slots=True)
class OtherEnd:
    """How the node at the other end has a session, where it is not how this one has it.  `as_number`: its own; `expects`: of us;
    `origin`: by which resource."""

    node: str
    as_number: int
    expects: int
    origin: str


@dataclass(frozen=True, slots=True)
class Session:
    """One BGP session.  `name`: its protocol's in BIRD, stable while the peer is, at most 63 characters.  `origin`: which resource it
    comes from, for people.  `families`: of the routes that it carries (channels).  Times in seconds, 0: BIRD's own.  `ttl`: hops that
    ttl security lets through, 0 for none.  `multihop`: the peer is not on a link of ours.  `reflects`: the peer is a client of this node
    as route reflector, in the cluster of this ID.  `via`: a static route to the peer leads there.  `limit`: prefixes that are taken, 0
    for all.  `other_end`: for people alone."""

    name: str
    origin: str
    address: Address
    remote_as: int
    local_as: int
    families: tuple[int, ...]
    port: int = 179
    source: Address | None = None
    passive: bool = False
    password: Secret | None = None
    ttl: int = 0
    multihop: bool = True
    hold_time: int = 0
    keepalive_time: int = 0
    restart_time: int | None = 120
    bfd: Bfd | None = None
    reflects: IPv4Address | None = None
    next_hop: NextHop = NextHop.AUTO
    allowed_local_as: int = 0
    via: Address | None = None
    trust: Trust = Trust.POOLS
    limit: int = 0
    filters: tuple[str, ...] = ()
    other_end: OtherEnd | None = None

    @property
    def external(self) -> bool:
        return self.remote_as != self.local_as


@dataclass(frozen=True, slots=True)
class Announced:
    """`origin`: which resource it comes from, for people."""

    prefix: Prefix
    origin: str
    communities: tuple[Community, ...] = ()


@dataclass(frozen=True, slots=True)
class BgpConfig:
    """`listen`: addresses to listen on; none: all.  `plain`: prefixes of pools whose packets cross without a tunnel: BIRD's routes
    to them go into the kernel.  `neighbours`: those that do so between neighbours only (CrossSubnet).  `pools`: all of the cluster's.
    `tunnelled`: prefixes of pools of `neighbours` whose node looks like one by its address, and is none.
    `own`: this node's blocks, and networks of its own, which nobody else can tell it about.  `subnets`: of its links.
    `ignored`: interfaces whose own routes are no business of BIRD's.  `draining`: peers are asked to go elsewhere (RFC 8326);
    `withdrawn`: and are told of no way here any more.  `addresses`: this node's own, what peers are told to send to where a session is
    of the other family.  `families`: that this kernel speaks."""

    node: str
    router_id: IPv4Address
    local_as: int
    port: int = 179
    listen: tuple[Address, ...] = ()
    announced: tuple[Announced, ...] = ()
    pools: tuple[Prefix, ...] = ()
    plain: tuple[Prefix, ...] = ()
    neighbours: tuple[Prefix, ...] = ()
    tunnelled: tuple[Prefix, ...] = ()
    own: tuple[Prefix, ...] = ()
    subnets: tuple[Prefix, ...] = ()
    ignored: tuple[str, ...] = ()
    draining: bool = False
    withdrawn: bool = False
    addresses: tuple[Address, ...] = ()
    families: tuple[int, ...] = (4, 6)
    sessions: tuple[Session, ...] = ()
    filters: Mapping[str, RouteFilter] = field(default_factory=dict)
