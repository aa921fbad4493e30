"""Routers that speak BGP: what the BIRD of a lab's top-of-rack switch, spine or route reflector is configured with.  Pure.

A router tells its peers of whatever others told it, and believes everything: it is a stand-in for hardware that knows nothing of pods.
Peers of another AS are told of the subnets that it is plugged into, too, and to send to itself, as routers do.  What it passes on inside
its AS it passes on unchanged, except that a next hop outside of the AS becomes itself.  Subnets are no news inside an AS: BIRD finds no
next hop by a route whose own next hop has to be looked up.

One session per address family; two ends that share a switch talk over it, others from their first addresses.  BGP's recursive
next hops are looked up among the static routes, which stand behind learned ones here (see `underlay`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netloom.lab.topology import Node, Router, Topology
from netloom.model.addresses import Address, Interface
from netloom.model.bgp_configuration import DEFAULT_AS, BGPConfiguration

_HEADER = """\
# BIRD of router {name}, AS {number}, as the lab's file has it.
log stderr all;
router id {identity};
graceful restart wait 30;
timeformat protocol iso long;

protocol device {{ scan time 5; }}
protocol direct {{ ipv4; ipv6; interface {interfaces}; }}
protocol bfd {{ interface "*" {{ interval 100 ms; multiplier 3; }}; multihop {{ interval 100 ms; multiplier 3; }}; }}
"""
_KERNEL = """
protocol kernel kernel{version} {{
    learn; persist; merge paths on; graceful restart on; scan time 5;
    ipv{version} {{ import all; export where source = RTS_BGP; }};
}}
"""
_SESSION = """
protocol bgp {name} {{
    local {local} as {local_as};
    neighbor {remote} as {remote_as};
    {way}; graceful restart on; bfd {bfd};
    connect delay time 1; connect retry time 3; error wait time 1, 5;{reflects}
    ipv{version} {{
        import all;
        export filter {{
            if source = RTS_BGP then accept;{subnets}
            reject;
        }};
        next hop self{when};
    }};
}}
"""
_SUBNETS = """
            if source = RTS_DEVICE && ! (net ~ [ {link} ]) then accept;"""


@dataclass(frozen=True, slots=True)
class _Peer:
    """One end of a session, in one family.  `direct`: both ends are on this link."""

    name: str
    remote_as: int
    local: Interface
    remote: Address
    direct: bool
    client: bool


def configuration(topology: Topology, router: Router) -> str:
    identity = next((a.ip for a in _addresses(topology, router) if a.version == 4), None)
    parts = [
        _HEADER.format(
            name=router.name,
            number=router.as_number,
            identity=identity or f"0.0.0.{topology.routers.index(router) + 1}",
            interfaces=", ".join(f'"{switch}"' for switch in router.switches),
        )
    ]
    parts += [_KERNEL.format(version=version) for version in (4, 6)]
    parts += [_session(router, peer) for peer in _peers(topology, router)]
    return "".join(parts)


def _session(router: Router, peer: _Peer) -> str:
    version = peer.remote.version
    inside = peer.remote_as == router.as_number
    return _SESSION.format(
        name=f"{peer.name.replace('-', '_')}_{version}",
        local=peer.local.ip,
        local_as=router.as_number,
        remote=peer.remote,
        remote_as=peer.remote_as,
        way="direct" if peer.direct else "multihop",
        bfd="on" if router.bfd else "off",
        reflects=f"\n    rr client; rr cluster id {router.cluster_id};" if inside and peer.client else "",
        version=version,
        subnets="" if inside else _SUBNETS.format(link=peer.local.network),
        when=" ebgp" if inside else "",
    )


def _peers(topology: Topology, router: Router) -> Iterator[_Peer]:
    names = {*router.peers, *(r.name for r in topology.routers if router.name in r.peers)}
    others: tuple[Node | Router, ...] = (*topology.routers, *topology.nodes)
    for other in others:
        if other.name not in names:
            continue
        shared = next((s for s in router.switches if s in other.switches), "")
        reflectors = isinstance(other, Router) and bool(other.cluster_id)
        local, remote = _addresses(topology, router, shared), _addresses(topology, other, shared)
        for here in local:
            for there in remote:
                if here.version == there.version:
                    number = other.as_number or cluster_as(topology)
                    client = bool(router.cluster_id) and not reflectors
                    yield _Peer(other.name, number, here, there.ip, bool(shared), client)


def _addresses(topology: Topology, part: Router | Node, switch: str = "") -> tuple[Interface, ...]:
    if isinstance(part, Router):
        return topology.router_addresses(part, switch or part.switches[0])
    return topology.node_addresses(part, switch)


def cluster_as(topology: Topology) -> int:
    """What a node's AS is where nothing else is said."""
    numbers = (r.spec.as_number for r in topology.declared() if isinstance(r, BGPConfiguration))
    return next((number for number in numbers if number), DEFAULT_AS)
