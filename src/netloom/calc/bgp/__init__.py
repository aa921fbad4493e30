"""BGP: what this node's BIRD should do, out of the snapshot: with whom it speaks, what it tells, what it believes.

    speakers    every node's part: AS number, port, cluster ID, addresses
    pairs       who peers with whom, and by which resource
    sessions    one Session each
    announced   this node's blocks, and services
    taking      which routes to other nodes are BIRD's, and which still the agent's

Who is no node of the cluster announces nothing: its Node was deleted, or is another machine's by now.

BGP is on when there is a BGPConfiguration `default`, or any BGPPeer.  What is broken is left out and told; the rest stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address

from netloom.calc.bgp.announced import announced
from netloom.calc.bgp.sessions import Known, sessions
from netloom.calc.bgp.speakers import Speakers
from netloom.calc.forms import own_word
from netloom.calc.tables import Tables
from netloom.model.addresses import Address, Prefix
from netloom.model.bgp_configuration import BGPConfiguration, BindMode
from netloom.model.host import Host
from netloom.model.resources import Encapsulation, IPPool
from netloom.model.routing import BgpConfig
from netloom.model.snapshot import Snapshot

__all__ = ["Known", "config", "is_on"]


def is_on(snapshot: Snapshot) -> bool:
    return bool(snapshot.bgp_peers) or BGPConfiguration.NAME in snapshot.bgp_configurations


def config(
    snapshot: Snapshot, host: Host, others: Tables, disputed: Collection[Address], known: Known | None = None
) -> BgpConfig | None:
    """`others`: what leads to the other nodes, where problems are told, too.  `disputed`: addresses that a node says to have and that
    may be another's.  `known`: what was computed last.  None: BGP is off."""
    if not is_on(snapshot):
        return None
    speakers = Speakers(snapshot, host)
    own, settings = speakers.own, speakers.settings
    pools = [pool for _, pool in sorted(snapshot.pools.items()) if not pool.spec.network]
    found = sessions(snapshot, host, speakers, disputed, others.problems, known or Known())
    named = {name for session in found for name in session.filters}
    return BgpConfig(
        node=host.node,
        router_id=_router_id(host),
        local_as=own.as_number,
        port=own.port,
        listen=tuple(a.ip for a in host.addresses) if settings.bind_mode is BindMode.NODE_IP else (),
        announced=announced(snapshot, host, settings, others.problems) if own_word(snapshot, host) else (),
        pools=_sorted(pool.spec.cidr for pool in pools),
        plain=_sorted((*(pool.spec.cidr for pool in pools if _is_plain(pool)), *others.left)),
        neighbours=_sorted(pool.spec.cidr for pool in pools if pool.spec.encapsulation.cross_subnet),
        tunnelled=_sorted(others.tunnelled),
        own=_sorted(
            (*host.blocks, *(p.spec.cidr for p in snapshot.pools.values() if p.spec.network and p.spec.node == host.node))
        ),
        subnets=_sorted(_subnets(host)),
        ignored=tuple(sorted(settings.ignored_interfaces)),
        draining=own.draining,
        addresses=tuple(a.ip for a in host.addresses),
        families=(4, 6) if host.ipv6 else (4,),
        sessions=found,
        filters={name: snapshot.bgp_filters[name].value for name in sorted(named)},
    )


def _is_plain(pool: IPPool) -> bool:
    return pool.spec.encapsulation is Encapsulation.NONE


def _sorted(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    return tuple(sorted(set(prefixes), key=lambda p: (p.version, p)))


def _subnets(host: Host) -> Iterable[Prefix]:
    for uplink in host.uplinks.values():
        for address in uplink.addresses:
            if not address.is_link_local and address.network.prefixlen < address.max_prefixlen:
                yield address.network


def _router_id(host: Host) -> IPv4Address:
    """The node's IPv4 address; where it has none, one that its name stands for, so that it stays the same."""
    address = host.address(4)
    if address is not None:
        return IPv4Address(address.ip)
    number = int.from_bytes(hashlib.sha256(host.node.encode()).digest()[:4], "big")
    return IPv4Address(number or 1)
