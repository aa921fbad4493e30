"""Each check on facts of a clean host that were changed in one thing."""

from __future__ import annotations

import ipaddress
from dataclasses import fields, replace
from typing import Any

import pytest

from netloom.config import Settings
from netloom.dataplane.netlink import Device, VxlanData
from netloom.dataplane.nft.objects import INET, TableId
from netloom.findings import Level, exit_code
from netloom.footprint.runtimes import Runtime
from netloom.model.addresses import Mac
from netloom.model.desired import IPIP, UDP, Outer
from netloom.model.host import Uplink
from netloom.model.resources import FelixConfiguration, FelixConfigurationSpec, Metadata
from netloom.preflight.facts import Chain, Facts, Neighbours, Network, Permission, Put, Room, Unread
from netloom.preflight.judging import judge
from tests.pure.cli.samples import CLUSTER, STATE, node, pool
from tests.pure.preflight.facts import CLEAN, ETH0, ETH1, SWITCHES, found, with_cluster

FORWARD = Chain(TableId(INET, "filter"), "forward", "forward", drops=True)
INPUT = Chain(TableId(INET, "filter"), "input", "input", closed=frozenset([(4, Outer(UDP, 4789))]))
IPTABLES = Chain(TableId(2, "filter"), "FORWARD", "forward", drops=True)
OUR_NETWORK = Network("/etc/cni/net.d/10-netloom.conflist", "pods", ("netloom",))
FLANNEL = Network("/etc/cni/net.d/10-flannel.conflist", "cbr0", ("flannel", "portmap"))


def link(name: str, kind: str = "", *, mtu: int = 1500, port: int = 0) -> Device:
    vxlan = VxlanData(1, port, None, 0, learning=False) if port else None
    return Device(5, name, kind, Mac("02:00:00:00:00:01"), mtu, True, 0, 0, -1, "", 0, False, False, False, vxlan)


def test_a_clean_host_raises_no_alarm() -> None:
    assert found(CLEAN) == {}


def test_a_clean_node_of_a_cluster_raises_none_either() -> None:
    switches = {**SWITCHES, "net/ipv4/ip_forward": "1"}
    facts = replace(CLEAN, agent=STATE, switches=switches, descriptors=524288, link_file=True, networks=(OUR_NETWORK,))
    assert found(with_cluster(facts, *CLUSTER)) == {}


CASES: list[tuple[str, Level, str, dict[str, Any]]] = [
    ("kernel", Level.PROBLEM, "refuses what vxlan takes: no", {"refused": {"vxlan": "no"}}),
    ("kernel", Level.WARNING, "refuses what ifb takes: no", {"refused": {"ifb": "no"}}),
    ("kernel", Level.WARNING, "the program nft on this host cannot show", {"refused": {"nft": "syntax error"}}),
    ("address", Level.PROBLEM, "which address should other nodes use?", {"uplinks": {}, "default": ()}),
    ("forwarding", Level.PROBLEM, "is read-only", {"read_only": True}),
    (
        "forwarding",
        Level.WARNING,
        "sets net/ipv4/ip_forward to 0",
        {"configured": {"net/ipv4/ip_forward": ("0", "/etc/x.conf")}},
    ),
    ("forwarding", Level.PROBLEM, "is 0 although the agent runs", {"agent": STATE, "link_file": True}),
    ("firewalls", Level.PROBLEM, "drops what this host forwards, and with it", {"chains": (FORWARD,), "switches": {}}),
    ("firewalls", Level.WARNING, "the agent will make a passage", {"chains": (IPTABLES,)}),
    ("firewalls", Level.WARNING, "the agent will make a passage", {"legacy": {4: ("-P FORWARD DROP",)}}),
    ("firewalls", Level.PROBLEM, "there is no program ip6tables-legacy", {"legacy": {6: None}}),
    ("inbound", Level.PROBLEM, "drops what other nodes send through VXLAN, UDP port 4789", {"chains": (INPUT,)}),
    (
        "inbound",
        Level.WARNING,
        "the agent will make a passage",
        {"chains": (INPUT._replace(table=TableId(INET, "firewalld")),)},
    ),
    (
        "inbound",
        Level.WARNING,
        "the agent will make a passage",
        {"legacy": {4: ("-P INPUT DROP", "-A INPUT -i lo -j ACCEPT")}},
    ),
    ("networks", Level.WARNING, "gives pods network 'cbr0' (flannel, portmap)", {"networks": (FLANNEL,)}),
    ("networks", Level.PROBLEM, "comes before 10-netloom.conflist", {"networks": (FLANNEL, OUR_NETWORK)}),
    ("networks", Level.PROBLEM, "is another one", {"networks": (OUR_NETWORK._replace(types=("bridge",)),)}),
    ("leftovers", Level.WARNING, "cni0, flannel.1: left by flannel", {"links": (link("flannel.1"), link("cni0"))}),
    ("leftovers", Level.WARNING, "left by calico", {"links": (link("cali0123456789a"),)}),
    ("leftovers", Level.WARNING, "left by kube-router", {"links": (link("kube-bridge"),)}),
    ("leftovers", Level.WARNING, "left by cilium", {"links": (link("cilium_host"),)}),
    ("leftovers", Level.WARNING, "chains cali-…: left by calico", {"chains": (Chain(TableId(2, "nat"), "cali-OUTPUT"),)}),
    ("leftovers", Level.WARNING, "chains KUBE-ROUTER-…", {"legacy": {4: ("-N KUBE-ROUTER-INPUT",)}}),
    ("tunnels", Level.PROBLEM, "speaks VXLAN on UDP port 4789", {"links": (link("vx0", "vxlan", port=4789),)}),
    ("tunnels", Level.PROBLEM, "a process listens on UDP port 4789", {"udp": frozenset((4789,))}),
    ("mtu", Level.WARNING, "leaves 1250 bytes, and IPv6 needs 1280", {"uplinks": {"eth0": replace(ETH0, mtu=1300)}}),
    ("mtu", Level.PROBLEM, "leaves 550 bytes, too few", {"uplinks": {"eth0": replace(ETH0, mtu=600)}}),
    ("mtu", Level.PROBLEM, "larger packets of pods are lost", {"settings": Settings(node_name="a", mtu=1500)}),
    ("mtu", Level.PROBLEM, "has an MTU of 1500, and eth0 leaves 1450", {"links": (link("loom.vxlan"),)}),
    ("connections", Level.WARNING, "52429 connections are tracked", {"tracked": (52429, 65536)}),
    ("connections", Level.PROBLEM, "of at most 65536", {"tracked": (65536, 65536)}),
    ("neighbours", Level.WARNING, "900 neighbours are known", {"neighbours": (Neighbours(4, 900, 1024),)}),
    ("neighbours", Level.PROBLEM, "of at most 1024", {"neighbours": (Neighbours(6, 1024, 1024),)}),
    ("clock", Level.PROBLEM, "years behind", {"now": 86400.0}),
    ("clock", Level.WARNING, "60 s in the future", {"skew": 60.0}),
    ("space", Level.WARNING, "has room for 8192 KiB", {"rooms": (Room("/run", 8 << 20, -1),)}),
    ("space", Level.PROBLEM, "0 files", {"rooms": (Room("/run", 8 << 30, 0),)}),
    ("files", Level.PROBLEM, "is missing: no pod gets a network", {"put": (Put("/opt/cni/bin/netloom", "missing"),)}),
    ("files", Level.PROBLEM, "is changed", {"put": (Put("/opt/cni/bin/netloom", "changed"),)}),
    ("files", Level.WARNING, "is missing", {"put": (Put("/etc/systemd/network/05-netloom.link", "missing"),)}),
    ("runtime", Level.WARNING, "has no plugin `loopback`", {"runtime": Runtime(config=True)}),
    ("directories", Level.PROBLEM, "others", {"permissions": (Permission("/run/netloom", 0, 0o777),)}),
    ("directories", Level.PROBLEM, "others", {"permissions": (Permission("/run/netloom", 1000, 0o700),)}),
]


@pytest.mark.parametrize(
    ("check", "level", "message", "change"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_fault_is_found_by_its_check_alone(check: str, level: Level, message: str, change: dict[str, Any]) -> None:
    [(name, [finding])] = found(replace(CLEAN, **change)).items()
    assert (name, finding.level) == (check, level)
    assert message in finding.message
    assert finding.hint


HARMLESS: list[dict[str, Any]] = [
    {
        "chains": (
            FORWARD._replace(drops=False),
            FORWARD._replace(ours=True),
            INPUT._replace(closed=frozenset([(6, Outer(UDP, 4789))])),
        )
    },
    {"legacy": {4: ("-P INPUT DROP", "-A INPUT -p udp -m udp --dport 4789 -j ACCEPT")}},
    {"chains": (IPTABLES, Chain(TableId(2, "filter"), "NETLOOM-FORWARD"))},
    {"legacy": {4: ("-P FORWARD DROP", "-N NETLOOM-FORWARD")}},
    {"networks": (OUR_NETWORK, Network("/etc/cni/net.d/87-podman-bridge.conflist", "podman", ("bridge",)))},
    {"links": (link("docker0", "bridge"), link("cni-podman0", "bridge"), link("tunl0"), link("vx0", "vxlan", port=8472))},
    {"put": (Put("/etc/systemd/network/05-netloom.link", "changed"),)},
    {"runtime": Runtime(config=True), "plugins": ("loopback",)},
    {"tracked": None, "neighbours": ()},
    {"uplinks": {"eth0": ETH0, "docker0": Uplink("docker0", 1500, (ipaddress.ip_interface("172.17.0.1/16"),))}},
]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_harms_nobody_is_not_reported(change: dict[str, Any]) -> None:
    strict = {**SWITCHES, "net/ipv4/conf/docker0/rp_filter": "1", "net/ipv4/conf/all/rp_filter": "0"}
    assert found(replace(CLEAN, switches=strict, **change)) == {}


def test_a_strict_uplink_matters_where_there_is_another_way_out() -> None:
    strict = {**SWITCHES, "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/eth0/rp_filter": "0"}
    assert found(replace(CLEAN, switches=strict)) == {}
    [finding] = found(replace(CLEAN, switches=strict, uplinks={"eth0": ETH0, "eth1": ETH1}))["reverse-path"]
    assert (finding.level, finding.where) == (Level.WARNING, "net/ipv4/conf/eth1/rp_filter")
    facts = replace(CLEAN, switches={**strict, "net/ipv4/ip_forward": "1"}, agent=STATE, link_file=True)
    [finding] = found(facts)["reverse-path"]
    assert (finding.level, finding.hint) == (Level.PROBLEM, "sysctl -w net/ipv4/conf/eth0/rp_filter=2")


def test_with_bridge_nf_a_chain_that_drops_holds_up_frames_as_well() -> None:
    findings = found(replace(CLEAN, chains=(FORWARD,)))
    assert sorted(findings) == ["bridge-nf", "firewalls"]
    assert findings["bridge-nf"][0].hint == "sysctl -w net/bridge/bridge-nf-call-iptables=0"


def test_a_passage_that_is_missing_under_an_agent_is_a_problem() -> None:
    [finding] = found(with_cluster(replace(CLEAN, chains=(IPTABLES,), agent=STATE), *CLUSTER))["firewalls"]
    assert finding.level is Level.PROBLEM


def test_ipv6_matters_where_there_is_a_pool_of_it() -> None:
    off = {**SWITCHES, "net/ipv6/conf/all/disable_ipv6": "1"}
    without = {name: value for name, value in off.items() if "ipv6" not in name}
    assert found(replace(CLEAN, switches=off)) == {}
    six = pool("six", "fd00::/48")
    [finding] = found(with_cluster(replace(CLEAN, switches=off), six))["ipv6"]
    assert (finding.level, finding.hint) == (Level.WARNING, "sysctl -w net/ipv6/conf/all/disable_ipv6=0")
    [finding] = found(with_cluster(replace(CLEAN, switches=without), six))["ipv6"]
    assert finding.level is Level.PROBLEM


def test_two_nodes_with_one_address_are_named() -> None:
    other = node("b", "192.0.2.1/24")
    [finding] = found(with_cluster(CLEAN, other))["address"]
    assert finding.level is Level.PROBLEM
    assert finding.message.startswith("node b says that 192.0.2.1 is its address")
    assert found(with_cluster(CLEAN, node("a", "192.0.2.1/24"))) == {}


def test_a_cluster_without_tunnels_needs_no_port_for_them() -> None:
    small = replace(CLEAN, udp=frozenset((4789,)), uplinks={"eth0": replace(ETH0, mtu=1300)})
    assert found(with_cluster(small, pool("flat", "10.0.0.0/16", encapsulation="None"))) == {}


def felix(**numbers: int) -> FelixConfiguration:
    return FelixConfiguration(metadata=Metadata(name="default"), spec=FelixConfigurationSpec(**numbers))


def test_ports_are_those_that_the_cluster_has_agreed_on() -> None:
    flannel = with_cluster(
        replace(CLEAN, udp=frozenset((4789,))), pool("p", "10.0.0.0/16", encapsulation="VXLAN"), felix(vxlan_port=8472)
    )
    assert found(flannel) == {}
    [finding] = found(replace(flannel, udp=frozenset((8472,))))["tunnels"]
    assert finding.message == "a process listens on UDP port 8472, and our VXLAN needs it"


def test_udp_has_a_port_of_its_own_and_its_own_device_on_it() -> None:
    udp = with_cluster(replace(CLEAN, udp=frozenset((8285,))), pool("p", "10.0.0.0/16", encapsulation="UDP"))
    [finding] = found(udp)["tunnels"]
    assert finding.message == "a process listens on UDP port 8285, and our UDP needs it"
    assert found(replace(udp, links=(link("loom.udp", mtu=1472),))) == {}


@pytest.mark.parametrize(
    ("engine", "outer", "repair"),
    [("forwarder", Outer(UDP, 8285), "udp dport 8285 accept"), ("kernel", Outer(IPIP), "meta l4proto 4 accept")],
)
def test_tunnels_whose_packets_the_rules_see_have_to_pass_them(engine: str, outer: Outer, repair: str) -> None:
    closed = INPUT._replace(closed=frozenset([(4, outer)]))
    pools = pool("u", "10.0.0.0/16", encapsulation="UDP"), pool("i", "10.1.0.0/16", encapsulation="IPIP")
    facts = with_cluster(replace(CLEAN, chains=(closed,)), *pools)
    assert found(facts) == {}, "our own programs take them before any rule does"
    [finding] = found(replace(facts, settings=Settings(node_name="a", tunnel_engine=engine)))["inbound"]
    assert finding.hint.endswith(repair)


@pytest.mark.parametrize(("encapsulation", "around"), [("IPIP", 20), ("UDP", 28), ("VXLAN", 50)])
def test_room_in_a_tunnel_depends_on_the_tunnel(encapsulation: str, around: int) -> None:
    facts = with_cluster(CLEAN, pool("p", "10.0.0.0/16", encapsulation=encapsulation))
    assert found(replace(facts, settings=Settings(node_name="a", mtu=1500 - around))) == {}
    [finding] = found(replace(facts, settings=Settings(node_name="a", mtu=1501 - around)))["mtu"]
    assert f"leaves {1500 - around} bytes in a tunnel" in finding.message


def test_a_node_alone_gets_nothing_from_other_nodes() -> None:
    assert found(with_cluster(replace(CLEAN, chains=(INPUT,)), node("a", "192.0.2.1/24"))) == {}


def test_a_cluster_that_the_neighbour_table_is_too_small_for_is_known_before_it_is_full() -> None:
    nodes = [node(f"n{number}", f"10.1.{number // 250}.{number % 250 + 1}/16") for number in range(1100)]
    findings = found(with_cluster(CLEAN, *nodes))["neighbours"]
    assert [finding.level for finding in findings] == [Level.PROBLEM] * 2
    assert "1100 nodes and 0 pods on bridges, of at most 1024" in findings[0].message
    assert findings[0].hint.startswith("sysctl -w net/ipv4/neigh/default/gc_thresh3=8800; ")


FACTS = sorted(f.name for f in fields(Facts) if f.name not in ("settings", "release", "now", "agent", "cluster"))


@pytest.mark.parametrize("fact", FACTS)
def test_what_could_not_be_found_out_is_never_well(fact: str) -> None:
    """Each fact is needed by somebody, whatever the others are."""
    facts = replace(CLEAN, **{"agent": STATE, "runtime": Runtime(config=True), fact: Unread("Permission denied")})
    unknown = [
        f
        for findings in judge(with_cluster(facts, pool("six", "fd00::/48", encapsulation="VXLAN"))).values()
        for f in findings
        if f.level is Level.UNKNOWN
    ]
    assert unknown
    assert {f.message for f in unknown} == {"cannot be found out: Permission denied"}
    assert exit_code(unknown) == 3
