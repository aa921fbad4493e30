"""What a node should hold, as tables that can be read, and as walks: the result depends on the input alone."""

from __future__ import annotations

import ipaddress
import itertools
from dataclasses import replace

import msgspec
import pytest

from netloom.calc import desired, metrics
from netloom.model.addresses import Mac, Prefix, host_prefix
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, State, Wiring, host_interface_name
from netloom.model.desired import (
    AddressKey,
    Carrier,
    Catcher,
    Desired,
    Engine,
    Link,
    Outer,
    Route,
    RouteKey,
    RouteKind,
    Source,
    Tunnel,
    TunnelKey,
    Vxlan,
)
from netloom.model.host import Host, Uplink
from netloom.model.resources import (
    Encapsulation,
    FelixConfiguration,
    FelixConfigurationSpec,
    IPBlock,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
)
from netloom.model.snapshot import Snapshot
from tests.other_nodes import its_block, other_node

prefix = ipaddress.ip_network
interface = ipaddress.ip_interface
address = ipaddress.ip_address

HOST = Host(
    node="node1",
    node_id="id1",
    addresses=(interface("192.0.2.11/24"),),
    uplinks={"eth0": Uplink("eth0", 1500, (interface("192.0.2.11/24"),))},
    vtep_mac=Mac("66:00:00:00:00:01"),
    blocks=(prefix("10.244.1.0/26"),),
    tunnel_addresses=(address("10.244.1.0"),),
)


def pool(encapsulation: Encapsulation = Encapsulation.VXLAN, cidr: str = "10.244.0.0/16", *, nat: bool = True) -> IPPool:
    name = "v6" if ":" in cidr else "default"
    spec = IPPoolSpec(cidr=prefix(cidr), encapsulation=encapsulation, nat_outgoing=nat)
    return IPPool(metadata=Metadata(name=name), spec=spec)


def node(number: int, underlay: str | None = None) -> Node:
    where = interface(underlay or f"192.0.2.{10 + number}/24")
    return other_node(f"node{number}", f"id{number}", number, where, [prefix(f"10.244.{number}.0/26")])


def block(number: int, cidr: str | None = None, node_id: str | None = None) -> IPBlock:
    return its_block(prefix(cidr or f"10.244.{number}.0/26"), f"node{number}", node_id or f"id{number}")


def attachment(name: str, ip: str, *, bridge: str | None = None) -> Attachment:
    key = AttachmentKey("lab", name, "eth0")
    return Attachment(
        key=key,
        sequence=1,
        state=State.READY,
        netns=NetnsId(4, 99),
        host_interface=host_interface_name(key),
        mac=Mac("0a:58:0a:f4:01:02"),
        host_mac=Mac("ee:ee:ee:ee:ee:ee"),
        mtu=1450,
        addresses=(interface(ip),),
        wiring=Wiring.BRIDGE if bridge else Wiring.ROUTED,
        bridge=bridge,
        gateways=(address("10.244.1.1"),) if bridge else (),
    )


def shown(result: Desired) -> list[str]:
    """The tables as `ip` and `bridge` would print them."""
    lines = [_link(name, link) for name, link in result.links.items()]
    lines += [f"address {key.address} dev {key.device}" for key in result.addresses]
    lines += [_route(key.prefix, key.metric, route) for key, route in result.routes.items()]
    lines += [f"neighbour {key.address} lladdr {mac} dev {key.device}" for key, mac in result.neighbours.items()]
    lines += [f"fdb {key.mac} dev {key.device} dst {to}" for key, to in result.fdb.items()]
    lines += [f"tunnel {key.device} {key.prefix} → {to}" for key, to in result.tunnels.items()]
    lines += [f"sender {key.device} {key.address}" for key in result.senders]
    return sorted(lines)


def _link(name: str, link: Link) -> str:
    return f"link {name} {type(link).__name__.lower()} mtu {link.mtu}"


def _route(destination: Prefix, metric: int, route: Route) -> str:
    if route.kind is RouteKind.BLACKHOLE:
        return f"route blackhole {destination}"
    via = f" via {route.gateway}" if route.gateway else ""
    source = f" src {route.source}" if route.source else ""
    onlink = " onlink" if route.onlink else ""
    kind = " metric node" if metric >= 65536 else ""
    return f"route {destination}{via} dev {route.device}{onlink}{source}{kind}"


def test_vxlan_takes_a_route_a_neighbour_and_an_fdb_entry_per_peer() -> None:
    result = desired(Snapshot.of(1, [pool(), node(1), node(2), block(1), block(2)]), [], HOST)
    assert shown(result) == [
        "address 10.244.1.0/32 dev loom.vxlan",
        "address fe80::6400:ff:fe00:1/64 dev loom.vxlan",
        "fdb 66:00:00:00:00:02 dev loom.vxlan dst 192.0.2.12",
        "link loom.vxlan vxlan mtu 1450",
        "neighbour 10.244.2.0 lladdr 66:00:00:00:00:02 dev loom.vxlan",
        "route 10.244.2.0/26 via 10.244.2.0 dev loom.vxlan onlink src 10.244.1.0 metric node",
        "route blackhole 10.244.1.0/26",
    ]
    assert result.problems == ()


@pytest.mark.parametrize(
    "host", [replace(HOST, ipv6=False), replace(HOST, uplinks={"eth0": replace(HOST.uplinks["eth0"], mtu=1300)})]
)
def test_a_tunnel_that_cannot_speak_ipv6_is_not_asked_to(host: Host) -> None:
    result = desired(Snapshot.of(1, [pool(), node(1), block(1)]), [], host)
    assert [key.address.version for key in result.addresses] == [4]
    assert not [name for name in result.sysctls if "ipv6" in name]


@pytest.mark.parametrize(
    ("encapsulation", "name", "mtu"), [(Encapsulation.IPIP, "ipip", 1480), (Encapsulation.UDP, "udp", 1472)]
)
def test_ipip_and_udp_take_a_route_and_an_entry_in_the_tunnel(encapsulation: Encapsulation, name: str, mtu: int) -> None:
    result = desired(Snapshot.of(1, [pool(encapsulation), node(1), node(2), block(1), block(2)]), [], HOST)
    assert shown(result) == [
        f"address 10.244.1.0/32 dev loom.{name}",
        f"address fe80::6400:ff:fe00:1/64 dev loom.{name}",
        f"link loom.{name} tunnel mtu {mtu}",
        f"route 10.244.2.0/26 via 192.0.2.12 dev loom.{name} onlink src 10.244.1.0 metric node",
        "route blackhole 10.244.1.0/26",
        f"sender loom.{name} 192.0.2.12",
        f"tunnel loom.{name} 10.244.1.0/26 → 192.0.2.11",
        f"tunnel loom.{name} 10.244.2.0/26 → 192.0.2.12",
        f"tunnel loom.{name} 192.0.2.11/32 → 192.0.2.11",
        f"tunnel loom.{name} 192.0.2.12/32 → 192.0.2.12",
    ]
    assert result.problems == ()


def test_a_node_may_send_from_its_pods_of_every_pool_through_a_tunnel() -> None:
    """Which way a packet goes is the destination's pool's affair."""
    other = pool(Encapsulation.VXLAN, "fd00::/48")
    result = desired(
        Snapshot.of(1, [pool(Encapsulation.IPIP), other, node(1), node(2), block(2), block(2, "fd00::/122")]), [], HOST
    )
    theirs = {str(key.prefix) for key, node in result.tunnels.items() if node == address("192.0.2.12")}
    assert theirs == {"10.244.2.0/26", "fd00::/122", "192.0.2.12/32"}
    assert {key.device for key in result.tunnels} == {"loom.ipip"}


def test_ipv6_pods_cross_an_ipv4_underlay_in_ipip() -> None:
    v6 = pool(Encapsulation.IPIP, "fd00::/48")
    result = desired(Snapshot.of(1, [v6, node(1), node(2), block(2, "fd00::/122")]), [], HOST)
    assert "route fd00::/122 via fe80::6400:ff:fe00:2 dev loom.ipip onlink metric node" in shown(result)


def test_the_kernels_own_ipip_carries_ipv4_alone() -> None:
    host = replace(HOST, engines={Carrier.IPIP: Engine.KERNEL})
    v6 = pool(Encapsulation.IPIP, "fd00::/48")
    result = desired(Snapshot.of(1, [v6, node(1), node(2), block(2, "fd00::/122")]), [], host)
    assert not [key for key in result.routes if key.prefix.version == 6]
    assert result.problems == ("the kernel's IPIP carries IPv4 in IPv4 alone: no IPv6 pods of node node2",)


def test_the_kernels_own_ipip_has_a_second_device_while_the_node_has_a_second_address() -> None:
    """It is bound to one address; packets come to both."""
    host = replace(HOST, engines={Carrier.IPIP: Engine.KERNEL})
    snapshot = Snapshot.of(1, [pool(Encapsulation.IPIP), node(1), node(2), block(2)])
    alone = desired(snapshot, [], host)
    assert "loom.ipip.any" not in alone.links
    both = desired(snapshot, [], replace(host, former=(address("192.0.2.111"),)))
    device = both.links["loom.ipip"]
    assert isinstance(device, Tunnel)
    assert both.links["loom.ipip.any"] == Catcher(device.mtu)
    assert both.filter.tunnels == {"loom.ipip", "loom.ipip.any"}
    assert both.sysctls["net/ipv4/conf/loom.ipip.any/rp_filter"] == "2"
    assert AddressKey("loom.ipip.any", interface("10.244.1.0/32")) in both.addresses, (
        "without one, nothing that comes by it is believed"
    )


def test_the_kernels_own_ipip_needs_an_ipv4_address() -> None:
    own = (interface("2001:db8::11/64"),)
    host = replace(HOST, engines={Carrier.IPIP: Engine.KERNEL}, addresses=own, uplinks={"eth0": Uplink("eth0", 1500, own)})
    result = desired(Snapshot.of(1, [pool(Encapsulation.IPIP), node(1)]), [], host)
    assert "loom.ipip" not in result.links
    assert "the kernel's IPIP needs an IPv4 address of this node, which has none" in result.problems


def test_a_tunnels_packets_may_come_by_every_way_to_other_nodes() -> None:
    """The address may be on a loopback's likeness, and the fabric reached by several interfaces."""
    names = ("eth0", "eth1", "eth2", "eth3")
    uplinks = {name: replace(HOST.uplinks["eth0"], name=name, addresses=(), default=name == "eth1") for name in names}
    host = replace(HOST, uplinks={**uplinks, "dummy0": replace(HOST.uplinks["eth0"], name="dummy0")}, ways=("eth2",))
    device = desired(Snapshot.of(1, [pool(Encapsulation.IPIP), node(1)]), [], host).links["loom.ipip"]
    assert isinstance(device, Tunnel)
    assert device.uplinks == ("dummy0", "eth1", "eth2")


def test_a_node_that_cannot_carry_a_form_says_so_once() -> None:
    result = desired(Snapshot.of(1, [pool(Encapsulation.UDP), node(1), node(2), block(2)]), [], replace(HOST, engines={}))
    assert result.problems == ("nothing on this node can carry UDP: its kernel allows no eBPF programs",)
    assert not result.routes.keys() - {RouteKey(b, metrics.BLACKHOLE) for b in HOST.blocks}


@pytest.mark.parametrize(
    "encapsulation", [Encapsulation.VXLAN_CROSS_SUBNET, Encapsulation.IPIP_CROSS_SUBNET, Encapsulation.UDP_CROSS_SUBNET]
)
def test_across_subnets_neighbours_get_plain_routes_and_others_the_tunnel(encapsulation: Encapsulation) -> None:
    nodes = [node(1), node(2), node(3, "198.51.100.13/24")]
    result = desired(Snapshot.of(1, [pool(encapsulation), *nodes, block(2), block(3)]), [], HOST)
    devices = {str(key.prefix): route.device for key, route in result.routes.items()}
    assert devices["10.244.2.0/26"] == "eth0"
    assert devices["10.244.3.0/26"] == f"loom.{encapsulation.method.value.lower()}"


def test_pods_may_not_send_to_a_tunnels_port_whoever_takes_its_packets_in() -> None:
    numbers = FelixConfiguration(metadata=Metadata(name="default"), spec=FelixConfigurationSpec(udp_port=9000))
    for engine in (Engine.EBPF, Engine.FORWARDER):
        host = replace(HOST, engines=dict.fromkeys(Carrier, engine))
        result = desired(Snapshot.of(1, [pool(Encapsulation.UDP), node(1), node(2), numbers]), [], host).filter
        assert result.carried == {9000}
        assert bool(result.outers) is (engine is Engine.FORWARDER)


@pytest.mark.parametrize("lie", ["fd00:244::105/64", "192.0.2.12/24", "192.0.2.11/24", "10.244.2.5/24"])
def test_a_node_that_says_to_have_anothers_address_draws_none_of_its_packets(lie: str) -> None:
    """Its own outer address, if it shows another one beside."""
    honest, v6 = node(2), pool(Encapsulation.IPIP, "fd00:244::/48")
    addresses = tuple({interface(a).version: interface(a) for a in ("192.0.2.13/24", lie)}.values())
    liar = msgspec.structs.replace(node(3), spec=msgspec.structs.replace(node(3).spec, addresses=addresses))
    blocks = (block(2), block(3), block(2, "fd00:244::100/122"))
    result = desired(Snapshot.of(1, [pool(Encapsulation.IPIP), v6, node(1), honest, liar, *blocks]), [], HOST)
    told = result.tunnels.get(TunnelKey("loom.ipip", host_prefix(interface(lie).ip)))
    assert told in (None, address("192.0.2.11"))
    assert any(str(interface(lie).ip) in problem for problem in result.problems)


def test_the_clusters_numbers_go_before_a_nodes_own() -> None:
    numbers = FelixConfiguration(metadata=Metadata(name="default"), spec=FelixConfigurationSpec(vxlan_vni=1, vxlan_port=8472))
    result = desired(Snapshot.of(1, [pool(), node(1), numbers]), [], HOST)
    device = result.links["loom.vxlan"]
    assert isinstance(device, Vxlan)
    assert (device.vni, device.port) == (1, 8472)


def test_direct_takes_one_route_per_block_and_nothing_else() -> None:
    result = desired(Snapshot.of(1, [pool(Encapsulation.NONE), node(1), node(2), block(1), block(2)]), [], HOST)
    assert shown(result) == [
        "route 10.244.2.0/26 via 192.0.2.12 dev eth0 metric node",
        "route blackhole 10.244.1.0/26",
    ]


def test_cross_subnet_tunnels_only_where_a_router_stands_between() -> None:
    far = node(3, "198.51.100.13/24")
    resources = [pool(Encapsulation.VXLAN_CROSS_SUBNET), node(1), node(2), far, block(1), block(2), block(3)]
    routes = [line for line in shown(desired(Snapshot.of(1, resources), [], HOST)) if line.startswith("route 10")]
    assert routes == [
        "route 10.244.2.0/26 via 192.0.2.12 dev eth0 metric node",
        "route 10.244.3.0/26 via 10.244.3.0 dev loom.vxlan onlink src 10.244.1.0 metric node",
    ]


def test_ipv6_pods_need_nothing_of_ipv6_on_the_underlay() -> None:
    resources = [pool(cidr="fd00:10::/64"), node(2), block(2, "fd00:10::40/122")]
    result = desired(Snapshot.of(1, resources), [], HOST)
    assert "route fd00:10::40/122 via fe80::6400:ff:fe00:2 dev loom.vxlan onlink metric node" in shown(result)
    assert "fdb 66:00:00:00:00:02 dev loom.vxlan dst 192.0.2.12" in shown(result)
    assert result.sysctls["net/ipv6/conf/all/forwarding"] == "1"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            [pool(Encapsulation.NONE), node(2, "198.51.100.12/24"), block(2)],
            "node node2 (198.51.100.12) is not a neighbour: its pools need a tunnel, as VXLAN or VXLANCrossSubnet",
        ),
        ([pool(), block(2)], "block 10.244.2.0/26 belongs to node node2, which is not there: no way there"),
        (
            [pool(), node(2), block(2, node_id="old")],
            "block 10.244.2.0/26 belongs to node node2, which is not there: no way there",
        ),
        ([node(2), block(2)], "block 10.244.2.0/26 of node node2 is in no pool: no way there"),
        ([pool(), node(2, "2001:db8::2/64"), block(2)], "node node2 has no IPv4 address or VTEP MAC: VXLAN cannot reach it"),
    ],
)
def test_what_cannot_be_reached_stays_closed_and_is_said(change: list, problem: str) -> None:  # type: ignore[type-arg]
    result = desired(Snapshot.of(1, change), [], HOST)
    assert result.problems == (problem,)
    assert not any("10.244.2" in line for line in shown(result))


def test_a_block_that_this_node_holds_is_never_routed_away() -> None:
    stolen = block(2, "10.244.1.0/26")
    result = desired(Snapshot.of(1, [pool(), node(1), node(2), stolen]), [], HOST)
    assert [line for line in shown(result) if "10.244.1.0/26" in line] == ["route blackhole 10.244.1.0/26"]


def test_a_routed_pod_is_a_route_and_a_permanent_neighbour() -> None:
    a = attachment("a", "10.244.1.2/32")
    result = desired(Snapshot.of(1, [pool(Encapsulation.NONE)]), [a], HOST)
    assert shown(result) == [
        f"link {a.host_interface} veth mtu 1450",
        f"neighbour 10.244.1.2 lladdr 0a:58:0a:f4:01:02 dev {a.host_interface}",
        "route 10.244.1.2/32 dev " + a.host_interface,
        "route blackhole 10.244.1.0/26",
    ]
    assert result.filter.sources == {Source(a.host_interface, a.mac, address("10.244.1.2"))}


def test_a_bridged_pod_is_a_port_and_the_bridge_has_its_blocks_gateway() -> None:
    a = attachment("a", "10.244.1.2/26", bridge="loom.br0")
    result = desired(Snapshot.of(1, [pool(Encapsulation.NONE)]), [a], HOST)
    assert shown(result) == [
        "address 10.244.1.1/26 dev loom.br0",
        "link loom.br0 bridge mtu 1450",
        f"link {a.host_interface} veth mtu 1450",
        "neighbour 10.244.1.2 lladdr 0a:58:0a:f4:01:02 dev loom.br0",
        "route blackhole 10.244.1.0/26",
    ]
    assert result.filter.bridges == {"loom.br0"}


def test_a_pod_that_leaves_is_wanted_no_more() -> None:
    a = attachment("a", "10.244.1.2/32")
    import msgspec

    leaving = msgspec.structs.replace(a, state=State.LEAVING)
    snapshot = Snapshot.of(1, [pool()])
    assert desired(snapshot, [leaving], HOST) == desired(snapshot, [], HOST)


def test_only_pools_with_nat_are_masqueraded_and_never_towards_a_pool() -> None:
    plain = pool(cidr="fd00:10::/64", nat=False)
    result = desired(Snapshot.of(1, [pool(), plain, node(2)]), [], HOST).filter
    assert result.masquerade == {prefix("10.244.0.0/16")}
    assert result.pools == {prefix("10.244.0.0/16"), prefix("fd00:10::/64")}
    assert result.vteps == {address("192.0.2.12")} and result.outers == {Outer(17, 4789)}


def test_the_order_of_events_leaves_no_trace() -> None:
    """Every order of the same changes, and one jump, end in the same state."""
    resources = [pool(), node(1), node(2), block(2)]
    at_once = desired(Snapshot.of(4, resources), [], HOST)
    for order in itertools.permutations(resources):
        snapshot = Snapshot(complete=True)
        for r in order:
            snapshot = snapshot.updated(4, [(r.kind, r.key, r)])
        assert desired(snapshot, [], HOST) == at_once
        for r in order:
            snapshot = snapshot.updated(5, [(r.kind, r.key, None)])
        assert desired(snapshot, [], HOST) == desired(Snapshot(), [], HOST)


# What one node says of itself draws nobody else's traffic


def refused(result: Desired, words: str) -> bool:
    """Nothing leads to another node, and it is said why."""
    led = [r for r in result.routes.values() if r.kind is not RouteKind.BLACKHOLE]
    return not led and any(words in problem for problem in result.problems)


def test_a_block_under_another_name_leads_nowhere() -> None:
    forged = msgspec.structs.replace(block(2), metadata=Metadata(name="evil"))
    assert refused(desired(Snapshot.of(1, [pool(), node(2), forged]), [], HOST), "block evil is no slot of its pool")


def test_a_block_that_is_no_slot_leads_nowhere() -> None:
    """A wide one would take in others', a narrow one would win over them."""
    for cidr in ("10.244.0.0/17", "10.244.2.0/27", "10.244.2.7/32"):
        result = desired(Snapshot.of(1, [pool(), node(2), block(2, cidr)]), [], HOST)
        assert refused(result, "is no slot of its pool"), cidr


def test_a_tunnel_address_outside_a_nodes_own_blocks_is_not_believed() -> None:
    thief = msgspec.structs.replace(
        node(2), spec=msgspec.structs.replace(node(2).spec, tunnel_addresses=(address("10.244.3.0"),))
    )
    result = desired(Snapshot.of(1, [pool(), thief, node(3), block(2), block(3)]), [], HOST)
    assert "neighbour 10.244.3.0 lladdr 66:00:00:00:00:03 dev loom.vxlan" in shown(result)
    assert "neighbour 10.244.2.0 lladdr 66:00:00:00:00:02 dev loom.vxlan" in shown(result)
    [route] = [line for line in shown(result) if line.startswith("route 10.244.2.0/26")]
    assert "via 10.244.2.0 dev loom.vxlan" in route


def test_a_vtep_mac_that_two_nodes_show_leads_to_neither() -> None:
    double = msgspec.structs.replace(node(2), spec=msgspec.structs.replace(node(2).spec, vtep_mac=Mac("66:00:00:00:00:03")))
    result = desired(Snapshot.of(1, [pool(), double, node(3), block(2), block(3)]), [], HOST)
    assert refused(result, "nodes node2 and node3 have the same VTEP MAC 66:00:00:00:00:03")


def test_a_vtep_mac_that_is_our_own_leads_nowhere() -> None:
    double = msgspec.structs.replace(node(2), spec=msgspec.structs.replace(node(2).spec, vtep_mac=HOST.vtep_mac))
    assert refused(
        desired(Snapshot.of(1, [pool(), double, block(2)]), [], HOST), "nodes node1 and node2 have the same VTEP MAC"
    )
