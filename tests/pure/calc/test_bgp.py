"""Whom this node's BIRD speaks with, and what it tells: golden values, and properties of any cluster."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.calc import bgp, desired
from netloom.calc.bgp.ends import LIMIT, session_name
from netloom.calc.tables import Tables
from netloom.model.addresses import Address
from netloom.model.host import Host, Uplink
from netloom.model.resources import AnyResource, convert
from netloom.model.routing import Announced, Bfd, BgpConfig, Community, NextHop, OtherEnd, Secret, Session, Trust
from netloom.model.snapshot import Snapshot


def made(kind: str, name: str, spec: object, **metadata: object) -> AnyResource:
    return convert({"kind": kind, "metadata": {"name": name, **metadata}, "spec": spec})


def node(number: int, *, labels: dict[str, str] | None = None, **fields: object) -> AnyResource:
    name, addresses = f"n{number}", [f"192.0.2.{number}/24", f"fd00::{number:x}/64"]
    return made("Node", name, {"id": name, "addresses": addresses, **fields}, labels=labels or {})


def pool(cidr: str = "10.244.0.0/16", name: str = "default", **spec: object) -> AnyResource:
    return made("IPPool", name, {"cidr": cidr, **spec})


def configuration(**spec: Any) -> AnyResource:
    return made("BGPConfiguration", "default", spec)


def peer(name: str = "tor", **spec: Any) -> AnyResource:
    return made("BGPPeer", name, spec)


def host(number: int = 1, **fields: Any) -> Host:
    addresses = (ip_interface(f"192.0.2.{number}/24"), ip_interface(f"fd00::{number:x}/64"))
    plain = Host(
        node=f"n{number}",
        node_id=f"n{number}",
        addresses=addresses,
        uplinks={"eth0": Uplink("eth0", 1500, addresses)},
        blocks=(ip_network("10.244.1.0/26"),),
    )
    return replace(plain, **fields)


def computed(*resources: AnyResource, on: Host | None = None) -> tuple[BgpConfig, list[str]]:
    result = desired(Snapshot.of(1, resources), [], on or host())
    assert result.bgp is not None
    return result.bgp, [problem for problem in result.problems if "BGP" in problem]


def sessions(*resources: AnyResource, on: Host | None = None) -> dict[str, Session]:
    return {session.name: session for session in computed(*resources, on=on)[0].sessions}


MESH = configuration()


def test_bgp_is_on_with_a_configuration_or_a_peer_and_off_without() -> None:
    alone = [node(1), pool()]
    assert desired(Snapshot.of(1, alone), [], host()).bgp is None
    assert desired(Snapshot.of(1, [*alone, made("BGPConfiguration", "node.n1", {"listenPort": 1790})]), [], host()).bgp is None
    assert desired(Snapshot.of(1, [*alone, MESH]), [], host()).bgp is not None
    assert desired(Snapshot.of(1, [*alone, peer(peerIP="192.0.2.254", asNumber=64513)]), [], host()).bgp is not None


def test_what_a_node_of_a_mesh_does() -> None:
    config, problems = computed(node(1), node(2), pool(), MESH)
    assert problems == []
    assert config == BgpConfig(
        node="n1",
        router_id=IPv4Address("192.0.2.1"),
        local_as=64512,
        announced=(Announced(ip_network("10.244.1.0/26"), "block of IPPool default"),),
        pools=(ip_network("10.244.0.0/16"),),
        plain=(ip_network("10.244.0.0/16"),),
        own=(ip_network("10.244.1.0/26"),),
        subnets=(ip_network("192.0.2.0/24"), ip_network("fd00::/64")),
        addresses=(ip_address("192.0.2.1"), ip_address("fd00::1")),
        sessions=(
            Session(
                name="mesh6_n2",
                origin="mesh, node n2",
                address=ip_address("fd00::2"),
                remote_as=64512,
                local_as=64512,
                families=(6,),
                source=ip_address("fd00::1"),
                passive=True,
                multihop=False,
            ),
            Session(
                name="mesh_n2",
                origin="mesh, node n2",
                address=ip_address("192.0.2.2"),
                remote_as=64512,
                local_as=64512,
                families=(4,),
                source=ip_address("192.0.2.1"),
                passive=True,
                multihop=False,
            ),
        ),
    )


def test_nodes_behind_a_router_are_more_than_one_hop_away() -> None:
    far = made("Node", "n2", {"id": "n2", "addresses": ["198.51.100.2/24"]})
    assert sessions(node(1), far, MESH)["mesh_n2"].multihop
    assert sessions(node(1), node(2), MESH, on=host(far={"n2": "a router stands between"}))["mesh_n2"].multihop


def test_the_mesh_says_what_the_cluster_says_of_it() -> None:
    spec = {
        "nodeMeshPassword": {"secretKeyRef": {"name": "mesh", "key": "all"}},
        "nodeMeshMaxRestartTime": "30s",
        "nodeMeshHoldTime": "15s",
        "asNumber": 65001,
        "listenPort": 1790,
    }
    found = sessions(node(1), node(2), configuration(**spec))["mesh_n2"]
    assert (found.password, found.restart_time, found.hold_time) == (Secret("mesh", "all"), 30, 15)
    assert (found.local_as, found.remote_as, found.port) == (65001, 65001, 1790)
    assert sessions(node(1), node(2), configuration(nodeMeshBFD={}))["mesh_n2"].bfd == Bfd()
    assert sessions(node(1), node(2), configuration(nodeMeshBFD={}))["mesh_n2"].restart_time is None


def test_a_node_has_a_port_an_as_number_and_addresses_of_its_own() -> None:
    resources = [
        node(1),
        node(2, bgp={"asNumber": 65002}),
        MESH,
        made("BGPConfiguration", "node.n2", {"listenPort": 1790}),
        made("BGPConfiguration", "node.n1", {"listenPort": 1179, "bindMode": "NodeIP", "ignoredInterfaces": ["docker*"]}),
    ]
    config, _ = computed(*resources)
    assert (config.port, config.listen) == (1179, (ip_address("192.0.2.1"), ip_address("fd00::1")))
    assert config.ignored == ("docker*",)
    assert {(s.port, s.remote_as, s.external) for s in config.sessions} == {(1790, 65002, True)}


def test_no_mesh_no_sessions_of_one() -> None:
    assert sessions(node(1), node(2), configuration(nodeToNodeMeshEnabled=False)) == {}


def test_reflectors_take_no_part_in_the_mesh() -> None:
    nodes = [node(1), node(2), node(3, bgp={"routeReflectorClusterID": "244.0.0.1"})]
    assert sessions(*nodes, MESH).keys() == {"mesh_n2", "mesh6_n2"}
    assert sessions(*nodes, MESH, on=host(3)) == {}


REFLECTOR = {"labels": {"reflector": "yes"}, "bgp": {"routeReflectorClusterID": "244.0.0.1"}}
TO_REFLECTORS = peer("reflectors", nodeSelector="!has(reflector)", peerSelector="has(reflector)")


def test_reflectors_reflect_to_their_clients_and_not_to_each_other() -> None:
    nodes = [node(1), node(2, **REFLECTOR), node(3, **REFLECTOR)]
    among = peer("among", nodeSelector="has(reflector)", peerSelector="has(reflector)")
    off = configuration(nodeToNodeMeshEnabled=False)
    client = sessions(*nodes, TO_REFLECTORS, among, off)
    assert client.keys() == {f"peer_reflectors_{a}" for a in ("192_0_2_2", "192_0_2_3", "fd00__2", "fd00__3")}
    assert {s.reflects for s in client.values()} == {None}
    reflector = sessions(*nodes, TO_REFLECTORS, among, off, on=host(2))
    assert {s.name: s.reflects for s in reflector.values()} == {
        "peer_among_192_0_2_3": None,
        "peer_among_fd00__3": None,
        "peer_reflectors_192_0_2_1": IPv4Address("244.0.0.1"),
        "peer_reflectors_fd00__1": IPv4Address("244.0.0.1"),
    }


def test_a_peering_that_is_told_to_one_side_alone_is_one_sided() -> None:
    manual = peer("m", node="n1", peerSelector="has(reflector)", reversePeering="Manual")
    nodes, off = [node(1), node(2, labels={"reflector": "yes"})], configuration(nodeToNodeMeshEnabled=False)
    assert sessions(*nodes, manual, off).keys() == {"peer_m_192_0_2_2", "peer_m_fd00__2"}
    assert sessions(*nodes, manual, off, on=host(2)) == {}


def test_a_local_as_number_is_of_those_that_the_peer_is_for() -> None:
    to = peer("p", node="n1", peerSelector="has(reflector)", localASNumber=65099)
    nodes, off = [node(1), node(2, labels={"reflector": "yes"})], configuration(nodeToNodeMeshEnabled=False)
    here, there = sessions(*nodes, to, off), sessions(*nodes, to, off, on=host(2))
    assert {(s.local_as, s.remote_as) for s in here.values()} == {(65099, 64512)}
    assert {(s.local_as, s.remote_as) for s in there.values()} == {(64512, 65099)}


def test_one_session_carries_both_families_where_it_is_asked_to() -> None:
    to = peer("p", peerSelector="all()", families=["IPv6", "IPv4"])
    found = sessions(node(1), node(2), to)
    assert {(s.address.version, s.families) for s in found.values()} == {(4, (4, 6))}


TOR = {"peerIP": "192.0.2.254", "asNumber": 64513}


def test_a_peer_outside_is_believed_anything_up_to_a_limit() -> None:
    found = sessions(node(1), peer(**TOR))["peer_tor"]
    assert found == Session(
        name="peer_tor",
        origin="BGPPeer tor",
        address=ip_address("192.0.2.254"),
        remote_as=64513,
        local_as=64512,
        families=(4,),
        source=ip_address("192.0.2.1"),
        multihop=False,
        trust=Trust.ANYTHING,
        limit=LIMIT,
    )


def test_all_that_a_peer_says_becomes_of_its_session() -> None:
    said = {
        "peerIP": "[fd00:1::1]:1790",
        "asNumber": 64513,
        "localASNumber": 64999,
        "nextHopMode": "Keep",
        "keepaliveTime": "10s",
        "holdTime": "30s",
        "numAllowedLocalASNumbers": 2,
        "ttlSecurity": 3,
        "reachableBy": "fd00::ff",
        "filters": ["in"],
        "bfd": {"interval": "100ms", "multiplier": 5},
        "prefixLimit": 10,
        "password": {"secretKeyRef": {"name": "fabric", "key": "tor"}},
    }
    rules = made("BGPFilter", "in", {"importV6": [{"action": "Reject"}]})
    config, problems = computed(node(1), peer(**said), rules, configuration(nodeToNodeMeshEnabled=False))
    assert problems == []
    assert config.sessions == (
        Session(
            name="peer_tor",
            origin="BGPPeer tor",
            address=ip_address("fd00:1::1"),
            remote_as=64513,
            local_as=64999,
            families=(6,),
            port=1790,
            source=ip_address("fd00::1"),
            password=Secret("fabric", "tor"),
            ttl=3,
            multihop=True,
            hold_time=30,
            keepalive_time=10,
            restart_time=None,
            bfd=Bfd(100, 5),
            next_hop=NextHop.KEEP,
            allowed_local_as=2,
            via=ip_address("fd00::ff"),
            trust=Trust.ANYTHING,
            limit=10,
            filters=("in",),
        ),
    )
    assert config.filters.keys() == {"in"}
    assert sessions(node(1), peer(**TOR, sourceAddress="None"))["peer_tor"].source is None


@pytest.mark.parametrize(
    ("spec", "peers"),
    [
        ({}, True),
        ({"node": "n1"}, True),
        ({"node": "n2"}, False),
        ({"nodeSelector": "rack == 'a'"}, True),
        ({"nodeSelector": "rack == 'b'"}, False),
        ({"nodeSelector": "all()"}, True),
    ],
)
def test_a_peer_is_for_all_nodes_or_one_or_those_with_labels(spec: dict[str, Any], peers: bool) -> None:
    found = sessions(node(1, labels={"rack": "a"}), peer(**TOR, **spec), configuration(nodeToNodeMeshEnabled=False))
    assert bool(found) is peers


def test_a_peer_at_a_nodes_address_in_its_as_has_that_nodes_port() -> None:
    nodes = [node(1), node(2, bgp={"asNumber": 65002}), MESH, made("BGPConfiguration", "node.n2", {"listenPort": 1790})]
    for spec, port in (({"asNumber": 65002}, 1790), ({"asNumber": 65001}, 179)):
        found = sessions(*nodes, peer("n2", node="n1", peerIP="192.0.2.2", **spec))["peer_n2"]
        assert (found.port, found.passive) == (port, False)


@pytest.mark.parametrize("cluster_id", ["244.0.0.1", None])
def test_a_node_that_says_to_have_a_routers_address_changes_nothing_of_its_session(cluster_id: str | None) -> None:
    """Nor when it is in the router's AS; in another one, it is told."""
    port = made("BGPConfiguration", "node.n2", {"listenPort": 1790})
    fields = {"bgp": {"routeReflectorClusterID": cluster_id}} if cluster_id else {}
    for number, odd in ((64513, ["BGPPeer tor: node n2, in AS 64512, says to have its address 192.0.2.254"]), (64512, [])):
        resources = [node(1, **fields), port, MESH, peer(peerIP="192.0.2.254:179", asNumber=number)]
        liar = made("Node", "n2", {"id": "n2", "addresses": ["192.0.2.254/24"], **fields})
        [before] = sessions(*resources).values()
        config, problems = computed(*resources, liar)
        [session] = config.sessions
        assert replace(session, other_end=None) == before
        assert [problem for problem in problems if "says to have" in problem] == odd


def test_of_a_node_it_is_known_how_it_has_the_session() -> None:
    """Where it is not how this one has it: one BGPPeer each, the mesh against one, and nobody who says it wrong."""
    off, nodes = configuration(nodeToNodeMeshEnabled=False), [node(1), node(2, bgp={"asNumber": 65002})]
    there = peer("to-n2", node="n1", peerIP="192.0.2.2", asNumber=65003, localASNumber=64999)
    back = peer("to-n1", node="n2", peerIP="192.0.2.1", asNumber=64513)
    assert sessions(*nodes, off, there)["peer_to_n2"].other_end is None
    assert sessions(*nodes, off, there, back)["peer_to_n2"].other_end == OtherEnd("n2", 65002, 64513, "BGPPeer to-n1")
    assert sessions(*nodes, MESH, there)["peer_to_n2"].other_end == OtherEnd("n2", 65002, 64512, "the mesh")
    meshed = sessions(*nodes, MESH, back)
    assert meshed["mesh_n2"].other_end == OtherEnd("n2", 65002, 64513, "BGPPeer to-n1")
    assert meshed["mesh6_n2"].other_end is None
    well = peer("to-n2", node="n1", peerIP="192.0.2.2", asNumber=65002)
    assert sessions(*nodes, MESH, well)["peer_to_n2"].other_end is None


BROKEN = [
    (peer("broken", node="n1", peerIP="192.0.2.1", asNumber=1), "BGPPeer broken: 192.0.2.1 is this node's own address"),
    (peer("broken", **{**TOR, "peerIP": "192.0.2.9"}, filters=["x"]), "BGPPeer broken: there is no BGPFilter x"),
    (peer("broken", peerSelector="all()", filters=["x"]), "BGPPeer broken: there is no BGPFilter x"),
    (peer("u", **TOR), "BGPPeer u: 192.0.2.254 has a session already, by BGPPeer tor"),
]


@pytest.mark.parametrize(("broken", "words"), BROKEN)
def test_a_broken_peer_is_told_and_leaves_the_others(broken: AnyResource, words: str) -> None:
    config, problems = computed(node(1), node(2), peer(**TOR), broken, configuration(nodeToNodeMeshEnabled=False))
    assert [p for p in problems if p.startswith(words)] == problems
    assert problems
    assert [session.name for session in config.sessions] == ["peer_tor"]


ODD_ADDRESSES = (
    "0.0.0.0/0",
    "127.0.0.1/8",
    "224.0.0.1/24",
    "255.255.255.255/32",
    "fe80::1/64",
    "::1/128",
    "ff02::1/64",
    "::/0",
)


@pytest.mark.parametrize("address", ODD_ADDRESSES)
def test_a_node_that_says_it_has_nobodys_address_is_no_peer_and_keeps_nobody_from_the_others(address: str) -> None:
    odd = made("Node", "n3", {"id": "n3", "addresses": [address]})
    for resources in ([MESH], [peer(peerSelector="all()")]):
        config, problems = computed(node(1), node(2), odd, *resources)
        assert {session.address for session in config.sessions} == {ip_address("192.0.2.2"), ip_address("fd00::2")}
        assert f"{ip_interface(address).ip}" in "".join(problems)


def test_what_is_wrong_with_a_node_is_told_as_long_as_it_is() -> None:
    odd, known = made("Node", "n3", {"id": "n3", "addresses": ["fe80::1/64"]}), bgp.Known()
    snapshot = Snapshot.of(1, [node(1), odd, MESH])
    for _ in range(2):
        others = Tables()
        bgp.config(snapshot, host(), others, (), known)
        assert [problem for problem in others.problems if "mesh, node n3" in problem]


def test_what_this_kernel_cannot_speak_is_left_out() -> None:
    here = host(ipv6=False, addresses=(ip_interface("192.0.2.1/24"),))
    both = peer("both", **TOR, families=["IPv4", "IPv6"])
    six = peer("six", peerIP="fd00::ff", asNumber=1, sourceAddress="None")
    config, problems = computed(node(1), both, six, on=here)
    assert [(session.name, session.families) for session in config.sessions] == [("peer_both", (4,))]
    assert problems == ["BGPPeer six: no BGP session: this node's kernel speaks no IPv6"]


def test_bfd_over_routers_and_a_listener_of_one_family_need_an_address_to_speak_from() -> None:
    far = peer("far", peerIP="203.0.113.9", asNumber=1, sourceAddress="None", bfd={})
    near = peer("near", **TOR, sourceAddress="None", bfd={})
    config, problems = computed(node(1), near, far)
    assert [session.name for session in config.sessions] == ["peer_near"]
    assert problems[0].startswith("BGPPeer far: no BGP session: 203.0.113.9 is on no link of this node; BFD needs an address")
    bound, here = configuration(bindMode="NodeIP"), host(addresses=(ip_interface("192.0.2.1/24"),))
    six = peer("six", peerIP="fd00::ff", asNumber=1, sourceAddress="None")
    config, problems = computed(node(1), near, six, bound, on=here)
    assert [session.name for session in config.sessions] == ["peer_near"]
    assert problems == ["BGPPeer six: no BGP session: bindMode NodeIP, and this node has no IPv6 address to listen on"]


def test_a_reflector_that_all_peer_with_by_address_does_not_peer_with_itself() -> None:
    to = peer("rr", peerIP="192.0.2.1", asNumber=64512)
    config, problems = computed(node(1), node(2), to, configuration(nodeToNodeMeshEnabled=False))
    assert (config.sessions, problems) == ((), [])
    assert sessions(node(1), node(2), to, configuration(nodeToNodeMeshEnabled=False), on=host(2)).keys() == {"peer_rr"}


def test_two_nodes_with_one_address_have_one_session() -> None:
    twin = made("Node", "n3", {"id": "n3", "addresses": ["192.0.2.2/24"]})
    found = sessions(node(1), node(2), twin, peer(peerSelector="all()"))
    assert len({s.address for s in found.values()}) == len(found)


def test_nobody_else_tells_of_this_nodes_blocks_or_of_its_own_networks() -> None:
    networks = [
        pool("172.20.0.0/16", "blue", network="blue", node="n1"),
        pool("172.21.0.0/16", "red", network="red", node="n2"),
    ]
    config, _ = computed(node(1), node(2), pool(), *networks, MESH)
    assert config.own == (ip_network("10.244.1.0/26"), ip_network("172.20.0.0/16"))


def test_blocks_are_announced_as_they_were_claimed_and_only_those_of_pools() -> None:
    blocks = tuple(
        map(ip_network, ("10.244.1.0/26", "10.244.1.64/26", "10.244.9.7/32", "10.9.0.0/26", "172.20.0.0/26", "10.1.0.0/26"))
    )
    pools = [
        pool(),
        pool("10.9.0.0/16", "hidden", disableBGPExport=True),
        pool("172.20.0.0/16", "blue", network="blue", node="n1"),
    ]
    config, _ = computed(node(1), *pools, MESH, on=host(blocks=blocks))
    assert [str(a.prefix) for a in config.announced] == ["10.244.1.0/26", "10.244.1.64/26", "10.244.9.7/32"]
    assert set(config.own) == {*blocks, ip_network("172.20.0.0/16")}
    assert [str(p) for p in config.pools] == ["10.9.0.0/16", "10.244.0.0/16"]


def test_prefixes_carry_the_communities_that_the_configuration_gives_them() -> None:
    spec = {
        "communities": [{"name": "far", "value": "65000:1"}, {"name": "large", "value": "65000:1:2"}],
        "prefixAdvertisements": [
            {"cidr": "10.244.0.0/16", "communities": ["far", "65000:7"]},
            {"cidr": "10.244.1.0/26", "communities": ["large", "far", "nobody"]},
            {"cidr": "10.245.0.0/16", "communities": ["65000:9"]},
        ],
    }
    config, problems = computed(node(1), pool(), configuration(**spec))
    assert [a.communities for a in config.announced] == [tuple(map(Community, ((65000, 1), (65000, 7), (65000, 1, 2))))]
    assert problems == ["BGPConfiguration: no community is called nobody: what is announced in 10.244.1.0/26 goes without"]


def service(name: str, policy: str, *nodes: str, **addresses: object) -> AnyResource:
    spec = {"externalTrafficPolicy": policy, "nodes": list(nodes), **addresses}
    return made("Service", name, spec, namespace="shop")


SERVICES = {
    "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}, {"cidr": "fd00:96::/108"}],
    "serviceExternalIPs": [{"cidr": "203.0.113.0/24"}],
    "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}],
}


def test_ranges_of_services_are_announced_by_all_and_local_ones_by_who_has_an_endpoint() -> None:
    services = [
        service("a", "Cluster", "n1", clusterIPs=["10.96.0.1"], loadBalancerIPs=["198.51.100.1"]),
        service("b", "Local", "n1", clusterIPs=["10.96.0.2", "fd00:96::2"], externalIPs=["203.0.113.2", "192.0.2.99"]),
        service("c", "Local", "n2", clusterIPs=["10.96.0.3"], loadBalancerIPs=["198.51.100.3"]),
        service("d", "Local", "n1", loadBalancerIPs=["198.51.100.4", "10.244.1.4"]),
    ]
    config, problems = computed(node(1), configuration(**SERVICES), *services)
    assert problems == []
    assert [str(a.prefix) for a in config.announced] == [
        "10.96.0.0/12",
        "10.96.0.2/32",
        "198.51.100.0/24",
        "198.51.100.4/32",
        "203.0.113.0/24",
        "203.0.113.2/32",
        "fd00:96::/108",
        "fd00:96::2/128",
    ]


def test_without_aggregation_load_balancers_are_announced_one_by_one() -> None:
    services = [
        service("a", "Cluster", loadBalancerIPs=["198.51.100.1", "192.0.2.9"]),
        service("b", "Local", loadBalancerIPs=["198.51.100.2"]),
    ]
    spec = {"serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}], "serviceLoadBalancerAggregation": "Disabled"}
    config, _ = computed(node(1), configuration(**spec), *services)
    assert [str(a.prefix) for a in config.announced] == ["198.51.100.1/32"]


def test_a_node_that_load_balancers_leave_out_announces_no_services() -> None:
    label = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    config, _ = computed(
        node(1, labels=label), pool(), configuration(**SERVICES), service("a", "Local", "n1", clusterIPs=["10.96.0.1"])
    )
    assert [str(a.prefix) for a in config.announced] == ["10.244.1.0/26"]


def test_services_draw_no_traffic_of_pods() -> None:
    spec = {"serviceClusterIPs": [{"cidr": "10.244.128.0/17"}, {"cidr": "10.0.0.0/8"}]}
    config, problems = computed(
        node(1), pool(), configuration(**spec), service("a", "Local", "n1", clusterIPs=["10.244.200.1"])
    )
    assert [str(a.prefix) for a in config.announced] == ["10.244.1.0/26"]
    assert problems == [
        f"BGPConfiguration serviceClusterIPs: {cidr} overlaps IPPool default: it is not announced"
        for cidr in ("10.244.128.0/17", "10.0.0.0/8")
    ]


def test_pools_are_birds_by_their_encapsulation() -> None:
    pools = [
        pool("10.1.0.0/16", "a"),
        pool("10.2.0.0/16", "b", encapsulation="VXLANCrossSubnet"),
        pool("10.3.0.0/16", "c", encapsulation="IPIP"),
    ]
    config, _ = computed(node(1), *pools, MESH)
    assert (config.plain, config.neighbours) == ((ip_network("10.1.0.0/16"),), (ip_network("10.2.0.0/16"),))
    assert len(config.pools) == 3


def test_a_node_that_drains_says_so() -> None:
    assert computed(node(1, draining=True), MESH)[0].draining
    assert not computed(node(1), MESH)[0].draining


def test_a_node_without_an_ipv4_address_has_a_router_id_that_stays() -> None:
    only_6 = host(addresses=(ip_interface("fd00::1/64"),))
    first, again = computed(node(1), MESH, on=only_6)[0], computed(node(1), node(2), MESH, on=only_6)[0]
    assert first.router_id == again.router_id != IPv4Address(0)
    assert first.router_id != computed(node(1), MESH, on=replace(only_6, node="n2"))[0].router_id


@pytest.mark.parametrize(("one", "other"), [("a-b", "a.b"), ("a.b", "a-b"), ("x" * 80, "x" * 79 + "y"), ("a.b.c", "a.b-c")])
def test_names_of_sessions_tell_names_apart(one: str, other: str) -> None:
    names = {session_name("mesh", name) for name in (one, other)}
    assert len(names) == 2
    assert all(len(name) <= 63 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for name in names)


# any cluster

LABELS = st.fixed_dictionaries({}, optional={"rack": st.sampled_from("ab"), "reflector": st.just("yes")})
SELECTORS = st.sampled_from(["all()", "rack == 'a'", "rack == 'b'", "has(reflector)", "!has(reflector)", "rack in {'a', 'b'}"])


@st.composite
def clusters(draw: Any) -> list[AnyResource]:  # Any: hypothesis' own
    count = draw(st.integers(2, 6))
    nodes = []
    for number in range(1, count + 1):
        versions = draw(st.sampled_from([(4, 6), (4,), (6,)]))
        addresses = [
            text
            for v, text in ((4, f"192.0.{draw(st.integers(2, 3))}.{number}/24"), (6, f"fd00::{number}/64"))
            if v in versions
        ]
        bgp_spec = draw(
            st.fixed_dictionaries(
                {}, optional={"asNumber": st.sampled_from([65001, 65002]), "routeReflectorClusterID": st.just("244.0.0.1")}
            )
        )
        nodes.append(
            made("Node", f"n{number}", {"id": f"n{number}", "addresses": addresses, "bgp": bgp_spec}, labels=draw(LABELS))
        )
    peers = [
        peer(
            f"p{number}",
            peerSelector=draw(SELECTORS),
            **draw(st.sampled_from([{}, {"nodeSelector": draw(SELECTORS)}, {"node": f"n{draw(st.integers(1, count))}"}])),
            **draw(
                st.fixed_dictionaries(
                    {}, optional={"localASNumber": st.just(65099), "families": st.sampled_from([["IPv4", "IPv6"], ["IPv6"]])}
                )
            ),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    mesh = configuration(nodeToNodeMeshEnabled=draw(st.booleans()))
    ports = [made("BGPConfiguration", "node.n1", {"listenPort": 1790})] if draw(st.booleans()) else []
    return [*nodes, *peers, mesh, *ports]


def of_all(resources: list[AnyResource]) -> dict[str, BgpConfig]:
    snapshot = Snapshot.of(1, resources)
    found = {}
    for name, each in snapshot.nodes.items():
        uplinks = {"eth0": Uplink("eth0", 1500, each.spec.addresses)}
        tables = Tables()
        config = bgp.config(snapshot, Host(node=name, node_id=name, addresses=each.spec.addresses, uplinks=uplinks), tables, ())
        assert config is not None
        assert tables.problems == []
        found[name] = config
    return found


@settings(max_examples=150)
@given(clusters())
def test_of_any_two_nodes_both_have_the_session_or_none_and_one_opens_it(resources: list[AnyResource]) -> None:
    configs = of_all(resources)
    by_pair: dict[tuple[str, Address, Address], Session] = {}
    for name, config in configs.items():
        for session in config.sessions:
            assert session.source is not None
            assert session.address not in config.addresses
            by_pair[name, session.source, session.address] = session
        assert len({s.address for s in config.sessions}) == len(config.sessions) == len({s.name for s in config.sessions})
    names = {address: name for name, config in configs.items() for address in config.addresses}
    for (_, source, address), here in by_pair.items():
        there = by_pair[names[address], address, source]
        assert here.passive != there.passive
        assert (here.local_as, here.remote_as) == (there.remote_as, there.local_as)
        assert here.families == there.families
        assert here.multihop == there.multihop
        assert here.port == configs[names[address]].port
        assert here.other_end is None


@given(clusters())
def test_a_full_mesh_has_everybody_but_reflectors(resources: list[AnyResource]) -> None:
    snapshot = Snapshot.of(1, [r for r in resources if r.kind != "BGPPeer"])
    configs = of_all(list(snapshot.resources()))
    meshed = snapshot.bgp_configurations["default"].spec.node_to_node_mesh_enabled
    speaking = [n for n in snapshot.nodes.values() if meshed and not (n.spec.bgp and n.spec.bgp.cluster_id)]
    pairs = {
        frozenset((a.ip, b.ip))
        for one, other in combinations(speaking, 2)
        for a in one.spec.addresses
        for b in other.spec.addresses
        if a.version == b.version
    }
    assert {frozenset((s.source, s.address)) for config in configs.values() for s in config.sessions} == pairs


@given(st.permutations([node(1), node(2), node(3, **REFLECTOR), pool(), MESH, TO_REFLECTORS, peer(**TOR), configuration()]))
def test_the_order_in_which_things_are_known_is_all_one(resources: list[AnyResource]) -> None:
    assert computed(*resources) == computed(node(1), node(2), node(3, **REFLECTOR), pool(), TO_REFLECTORS, peer(**TOR), MESH)


@given(st.lists(clusters(), min_size=2, max_size=4))
def test_what_was_computed_before_changes_nothing(walk: list[list[AnyResource]]) -> None:
    known, snapshot = bgp.Known(), Snapshot()
    for resources in walk:
        kept = {(r.kind, r.key): r for r in snapshot.resources()}
        now = [kept.get((r.kind, r.key), r) if kept.get((r.kind, r.key)) == r else r for r in resources]
        gone = [(kind, key, None) for kind, key in kept.keys() - {(r.kind, r.key) for r in now}]
        snapshot = snapshot.updated(snapshot.revision + 1, [*((r.kind, r.key, r) for r in now), *gone])
        on = host(addresses=snapshot.nodes["n1"].spec.addresses)
        assert bgp.config(snapshot, on, Tables(), (), known) == bgp.config(snapshot, on, Tables(), ())


def test_the_port_is_open_to_those_that_there_are_sessions_with() -> None:
    nodes = [node(1), node(2), made("BGPConfiguration", "node.n2", {"listenPort": 1790}), configuration(listenPort=1179)]
    rules = desired(Snapshot.of(1, [*nodes, peer(**TOR)]), [], host()).filter
    assert rules.bgp_port == 1179
    assert {str(a) for a in rules.bgp_peers} == {"192.0.2.2", "fd00::2", "192.0.2.254"}
    assert rules.bgp_ports == {1790, 179}
    assert "TCP port 1179" in map(str, rules.taken_in)
    off = desired(Snapshot.of(1, [node(1), node(2)]), [], host()).filter
    assert (off.bgp_port, off.bgp_peers, off.bgp_ports) == (0, frozenset(), frozenset())


def test_the_ports_of_bfd_are_guarded_where_it_is_used() -> None:
    def guarded(*peers: AnyResource) -> set[str]:
        rules = desired(Snapshot.of(1, [node(1), node(2), MESH, *peers]), [], host()).filter
        assert {f"UDP port {port}" for port in rules.bfd_ports} <= set(map(str, rules.taken_in))
        return set(map(str, rules.bfd_ports))

    far = {"peerIP": "203.0.113.9", "asNumber": 64999}
    assert guarded(peer(**TOR)) == set()
    assert guarded(peer(**TOR, bfd={})) == {"3784"}
    assert guarded(peer(**TOR, bfd={}), peer("far", **far, bfd={})) == {"3784", "4784"}


def test_a_node_that_says_to_have_another_address_of_ours_is_no_peer() -> None:
    uplinks = {"eth1": Uplink("eth1", 1500, (ip_interface("198.51.100.1/24"),))}
    liar = made("Node", "n2", {"id": "n2", "addresses": ["198.51.100.1/24"]})
    assert sessions(node(1), liar, MESH, on=host(uplinks=uplinks)) == {}


def test_who_is_no_node_of_the_cluster_announces_nothing() -> None:
    other = made("Node", "n1", {"id": "another machine", "addresses": ["192.0.2.9/24"]})
    for nodes in ([], [other]):
        assert computed(*nodes, pool(), configuration(**SERVICES))[0].announced == ()
