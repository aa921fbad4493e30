"""BgpConfigs that tests of bird.conf share: between them every field of every value is used.  Each has a file of its name below
tests/pure/bgp/rendered, which is what it is rendered to; BIRD itself reads those in tests/kernel/bgp."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

from netloom.model.routing import (
    Announced,
    Bfd,
    BgpConfig,
    Change,
    Community,
    FilterRule,
    Match,
    NextHop,
    OtherEnd,
    RouteFilter,
    Secret,
    Session,
    Trust,
)

RENDERED = Path(__file__).parent / "pure/bgp/rendered"
PASSWORD = Secret("fabric", "password")
SECRETS = {PASSWORD: "correct horse; } battery # staple"}

V4, V6 = ip_network("10.244.0.0/16"), ip_network("fd00:244::/48")
MESH = BgpConfig(
    node="node-a",
    router_id=IPv4Address("192.0.2.1"),
    local_as=64512,
    announced=(
        Announced(ip_network("10.244.0.0/26"), "IPBlock 10.244.0.0/26 of pool default"),
        Announced(ip_network("fd00:244::/122"), "IPBlock fd00:244::/122 of pool default-v6"),
    ),
    pools=(V4, V6),
    plain=(V4, V6),
    own=(ip_network("10.244.0.0/26"), ip_network("fd00:244::/122")),
    subnets=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/64")),
    addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    sessions=(
        Session(
            name="mesh_node_b",
            origin="Node node-b",
            address=ip_address("192.0.2.2"),
            remote_as=64512,
            local_as=64512,
            families=(4, 6),
            source=ip_address("192.0.2.1"),
            multihop=False,
        ),
        Session(
            name="mesh_node_c",
            origin="Node node-c",
            address=ip_address("198.51.100.3"),
            remote_as=64512,
            local_as=64512,
            families=(4, 6),
            source=ip_address("192.0.2.1"),
            passive=True,
        ),
    ),
)

FABRIC = replace(
    MESH,
    port=1179,
    listen=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    announced=(
        Announced(ip_network("10.244.0.0/26"), "IPBlock a", (Community((64512, 100)), Community((64512, 1, 2)))),
        Announced(ip_network("10.96.0.0/12"), "BGPConfiguration default, serviceClusterIPs"),
        Announced(ip_network("fd00:96::/108"), "BGPConfiguration default, serviceClusterIPs"),
    ),
    neighbours=(ip_network("10.245.0.0/16"),),
    tunnelled=(ip_network("10.245.7.0/26"),),
    pools=(V4, V6, ip_network("10.245.0.0/16"), ip_network("10.246.0.0/16")),
    ignored=("br-*", "docker0"),
    filters={
        "rack.in": RouteFilter(
            imports={
                4: (
                    FilterRule(False, ip_network("10.0.0.0/8"), Match.IN, lengths=(25, 32)),
                    FilterRule(True, ip_network("0.0.0.0/0"), Match.EQUAL, changes=(Change(priority=600),)),
                    FilterRule(False, ip_network("10.0.0.0/8"), Match.NOT_IN, learned=True, interface="eth*", external=True),
                    FilterRule(True, communities=(Community((64999, 1)), Community((64999, 1, 1))), path=(64999, 4200000000)),
                    FilterRule(
                        False, ip_network("10.1.0.0/16"), Match.NOT_EQUAL, lengths=(8, 24), external=False, priority=700
                    ),
                ),
                6: (FilterRule(False, lengths=(0, 47)), FilterRule(True)),
            },
        ),
        "rack-in": RouteFilter(
            exports={
                4: (
                    FilterRule(
                        True,
                        ip_network("10.244.0.0/16"),
                        changes=(Change(add_community=Community((64999, 7))), Change(prepend=(64512, 64513))),
                    ),
                ),
            },
        ),
    },
    sessions=(
        Session(
            name="peer_tor",
            origin="BGPPeer tor",
            address=ip_address("192.0.2.254"),
            remote_as=4200000000,
            local_as=64513,
            families=(4,),
            port=1790,
            source=ip_address("192.0.2.1"),
            password=PASSWORD,
            ttl=1,
            multihop=False,
            hold_time=30,
            keepalive_time=10,
            restart_time=None,
            bfd=Bfd(200, 4),
            next_hop=NextHop.SELF,
            allowed_local_as=2,
            trust=Trust.ANYTHING,
            limit=1000,
            filters=("rack.in", "rack-in"),
        ),
        Session(
            name="peer_tor_6",
            origin="BGPPeer tor",
            address=ip_address("2001:db8::fe"),
            remote_as=4200000000,
            local_as=64513,
            families=(6,),
            multihop=False,
            trust=Trust.ANYTHING,
            filters=("rack.in", "rack-in"),
        ),
        Session(
            name="peer_far",
            origin="BGPPeer far",
            address=ip_address("203.0.113.9"),
            remote_as=64999,
            local_as=64512,
            families=(4, 6),
            ttl=3,
            restart_time=60,
            bfd=Bfd(),
            next_hop=NextHop.KEEP,
            other_end=OtherEnd("node-z", 64999, 64513, "BGPPeer back"),
            via=ip_address("192.0.2.254"),
        ),
    ),
)

REFLECTOR = replace(
    MESH,
    sessions=(
        replace(MESH.sessions[0], reflects=IPv4Address("10.0.0.1")),
        replace(MESH.sessions[1], reflects=IPv4Address("10.0.0.1")),
        Session(
            name="mesh6_reflector_2",
            origin="Node reflector-2",
            address=ip_address("2001:db8::2"),
            remote_as=64512,
            local_as=64512,
            families=(6, 4),
        ),
    ),
)
DRAINING = replace(FABRIC, draining=True, sessions=(*FABRIC.sessions[:1], MESH.sessions[1]))
WITHDRAWN = replace(MESH, draining=True, withdrawn=True, families=(4,), sessions=(replace(MESH.sessions[0], families=(4,)),))

CONFIGS: dict[str, BgpConfig | None] = {
    "mesh": MESH,
    "fabric": FABRIC,
    "reflector": REFLECTOR,
    "draining": DRAINING,
    "withdrawn": WITHDRAWN,
    "off": None,
}


def rendered(name: str) -> str:
    return (RENDERED / f"{name}.conf").read_text()
