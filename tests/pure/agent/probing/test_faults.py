"""What measurements mean, in words."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from netloom.agent.probing.faults import Kind, Measured, faults
from netloom.agent.probing.prober import Echo, Failure
from netloom.agent.probing.ways import Way
from netloom.model.host import Host, Uplink

OWN = ipaddress.ip_interface("192.0.2.1/24")
HOST = Host("a", "id-a", addresses=(OWN,), uplinks={"eth0": Uplink("eth0", 1500, (OWN,))})
UNDERLAY = Way("", OWN.ip, ipaddress.ip_address("192.0.2.2"))
TUNNEL = Way("loom.vxlan", ipaddress.ip_address("10.1.0.0"), ipaddress.ip_address("10.1.1.0"))
SILENT = Echo(Failure.SILENT)


def well(way: Way, full: int = 1450) -> Measured:
    return Measured(way, full, full, Echo(node="b", seen=way.source, hops=0))


def found(*measured: Measured) -> list[tuple[Kind, str]]:
    return [(fault.kind, fault.words) for fault in faults("b", HOST, measured)]


def test_where_all_comes_through_nothing_is_said() -> None:
    assert found(well(UNDERLAY, 1500), well(TUNNEL)) == []


def test_of_a_node_that_does_not_answer_at_all_nothing_is_said() -> None:
    """Its agent may be away, or a firewall may have closed the port."""
    assert found(Measured(UNDERLAY, 1500, 0, SILENT), Measured(TUNNEL, 1450, 0, SILENT)) == []


def test_a_path_that_takes_less_is_said_with_what_to_set() -> None:
    [(kind, words)] = found(well(UNDERLAY, 1500), replace(well(TUNNEL), largest=1400))
    assert kind is Kind.SIZE
    assert words == (
        "packets of 1450 bytes do not come to b through loom.vxlan, 1400 do: the path's MTU is smaller than that of eth0; "
        "set mtu: 1400 in FelixConfiguration default, for all nodes"
    )
    [(_, words)] = found(replace(well(UNDERLAY, 1500), largest=1452), well(TUNNEL))
    assert words.endswith("what tunnels send is cut in two on its way, or lost: ip link set eth0 mtu 1452")


def test_a_stream_that_stalls_while_single_packets_pass_is_an_offload() -> None:
    [(kind, words)] = found(well(UNDERLAY, 1500), replace(well(TUNNEL), stream=Failure.STALLED))
    assert kind is Kind.STREAM
    assert words.startswith("TCP to b through loom.vxlan stalls while single packets of 1450 bytes pass")
    assert words.endswith("ethtool -K eth0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off")
    assert found(well(UNDERLAY, 1500), replace(well(TUNNEL), largest=1400, stream=Failure.STALLED))[0][0] is Kind.SIZE


def test_what_arrives_only_without_a_checksum_is_an_offload_too() -> None:
    [(kind, words)] = found(well(UNDERLAY, 1500), Measured(TUNNEL, 1450, 0, SILENT, bare=True))
    assert kind is Kind.CHECKSUM
    assert "arrive only without a checksum: checksum offload of eth0 is suspect" in words


def test_a_tunnel_that_carries_nothing_where_the_underlay_does_is_a_firewall() -> None:
    [(kind, words)] = found(well(UNDERLAY, 1500), Measured(TUNNEL, 1450, 0, SILENT))
    assert kind is Kind.CLOSED
    assert words.startswith("nothing comes to b through loom.vxlan, and over the underlay it does")


@pytest.mark.parametrize(("who", "said"), [("c", "node c"), ("a", "this node itself")])
def test_another_node_at_its_address_is_named(who: str, said: str) -> None:
    other = replace(well(UNDERLAY, 1500), echo=Echo(node=who, seen=UNDERLAY.source, hops=0))
    [(kind, words)] = found(other, Measured(TUNNEL, 1450, 0, SILENT))
    assert kind is Kind.OTHER_NODE
    assert words.startswith(f"192.0.2.2 is the address of node b, and {said} answers there: two nodes have one address")


def test_a_translator_and_a_router_make_a_neighbour_far() -> None:
    seen = ipaddress.ip_address("198.51.100.7")
    [translated] = faults("b", HOST, [replace(well(UNDERLAY), echo=Echo(node="b", seen=seen, hops=1))])
    assert (translated.kind, translated.far) == (
        Kind.TRANSLATED,
        "it sees this node as 198.51.100.7, an address translator stands between",
    )
    [router] = faults("b", HOST, [replace(well(UNDERLAY), echo=Echo(node="b", seen=OWN.ip, hops=2))])
    assert (router.kind, router.far) == (Kind.ROUTER, "2 routers stand between, whatever its address says")


def test_routers_between_nodes_of_different_networks_are_as_it_should_be() -> None:
    away = Way("", OWN.ip, ipaddress.ip_address("203.0.113.2"))
    assert faults("b", HOST, [replace(well(away), echo=Echo(node="b", seen=OWN.ip, hops=3))]) == []
