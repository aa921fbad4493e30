"""What lies between the nodes is at fault, and `netloom status` on a node says what, and what helps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from netloom.dataplane import netns
from netloom.lab import cluster
from netloom.lab.cluster import Lab
from netloom.lab.manifest import load
from netloom.lab.record import folder
from netloom.lab.topology import Topology, one_switch
from tests.lab.conftest import Raise, settled

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60.0


def curious(topology: Topology) -> Topology:
    """Nodes ask each other every second, not every minute."""
    return msgspec.structs.replace(topology, settings={"probeInterval": 1.0})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes on a switch.  Whoever does something to it takes it back, and waits until that is noticed."""
    name = f"t{os.getpid()}-underlay"
    try:
        made = cluster.up(msgspec.structs.replace(curious(one_switch(nodes=3, pods=3)), name=name))
        assert settled(made)
        yield made
    finally:
        cluster.down(name)


def run_at(lab: Lab, place: str, *command: str) -> str:
    with lab.namespace(place) as namespace, netns.entered(namespace):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def netloom(lab: Lab, node: str, *arguments: str) -> str:
    config = {"NETLOOM_CONFIG": folder(lab.name, node, "agent.yaml")}
    command = [sys.executable, "-m", "netloom", *arguments]
    with lab.namespace(node) as namespace, netns.entered(namespace):
        return subprocess.run(command, env=os.environ | config, capture_output=True, text=True, check=False).stdout


def said(lab: Lab, node: str, good: Callable[[str], bool]) -> str:
    """What `status` says as soon as that is `good`."""
    deadline = time.monotonic() + PATIENCE
    while not good(text := netloom(lab, node, "status")):
        assert time.monotonic() < deadline, text
        time.sleep(0.3)
    return text


def test_where_all_is_well_every_node_answers(lab: Lab) -> None:
    text = said(lab, "node-0", lambda text: "probes: 2 of 2 nodes answer" in text)
    assert "all is well" in text
    assert "address 192.168.100.11/24, fd00:192:168:100::b/64: set by nodeAddresses" in text


def test_a_link_that_takes_less_is_found_and_over_when_it_takes_more(lab: Lab) -> None:
    run_at(
        lab, "switch", "ip", "link", "set", "node-1", "mtu", "1400"
    )  # it takes a VLAN tag more, cuts nothing, and says nothing
    text = said(lab, "node-0", lambda text: "through loom.vxlan" in text and "over the underlay" in text)
    assert "packets of 1450 bytes do not come to node-1 through loom.vxlan, 1354 do" in text
    assert "the path's MTU is smaller than that of eth0; set mtu: 1354 in FelixConfiguration default" in text
    assert "packets of 1500 bytes do not come to node-1 over the underlay, 1404 do" in text
    assert "come to node-2" not in text
    run_at(lab, "switch", "ip", "link", "set", "node-1", "mtu", "1500")
    said(lab, "node-0", lambda text: "all is well" in text)


def test_an_interface_that_loses_large_segments_is_found(lab: Lab) -> None:
    """As one whose segmentation offload is broken for packets in tunnels."""
    rule = "type filter hook egress device eth0 priority 0; udp dport 4789 meta length > 1600 drop"
    run_at(lab, "node-0", "nft", f"table netdev broken {{ chain out {{ {rule}; }}; }}")
    text = said(lab, "node-0", lambda text: "TCP to node-1" in text)
    assert "TCP to node-1 through loom.vxlan stalls while single packets of 1450 bytes pass" in text
    assert "ethtool -K eth0 tx-udp_tnl-segmentation off" in text
    run_at(lab, "node-0", "nft", "delete table netdev broken")
    said(lab, "node-0", lambda text: "all is well" in text)


def test_a_firewall_between_the_nodes_that_drops_tunnels_is_found(lab: Lab) -> None:
    run_at(lab, "switch", "nft", "table bridge wall { chain c { type filter hook forward priority 0; udp dport 4789 drop; }; }")
    text = said(lab, "node-0", lambda text: "nothing comes to node-1" in text)
    assert "nothing comes to node-1 through loom.vxlan, and over the underlay it does" in text
    run_at(lab, "switch", "nft", "delete table bridge wall")
    said(lab, "node-0", lambda text: "all is well" in text)


def test_a_node_behind_a_translator_is_found(lab: Lab) -> None:
    run_at(lab, "node-1", "ip", "address", "add", "192.168.100.99/24", "dev", "eth0")
    rule = 'type filter hook postrouting priority 100; oifname "eth0" udp dport 9478 ip saddr set 192.168.100.99'
    run_at(lab, "node-1", "nft", f"table ip theirs {{ chain c {{ {rule}; }}; }}")
    text = said(lab, "node-1", lambda text: "node node-0 sees this node" in text)
    assert "node node-0 sees this node as 192.168.100.99, not as 192.168.100.12: an address translator stands between" in text
    run_at(lab, "node-1", "nft", "delete table ip theirs")
    run_at(lab, "node-1", "ip", "address", "del", "192.168.100.99/24", "dev", "eth0")
    said(lab, "node-1", lambda text: "all is well" in text)


def test_foreign_tunnels_are_named_and_routes_say_whose_they_are(lab: Lab) -> None:
    run_at(lab, "node-2", "ip", "link", "add", "theirs", "type", "vxlan", "id", "7", "dstport", "4789", "dev", "eth0")
    run_at(lab, "node-2", "ip", "route", "add", "10.99.0.0/24", "via", "192.168.100.1", "proto", "bird", "metric", "600")
    assert "theirs speaks VXLAN on UDP port 4789" in said(lab, "node-2", lambda text: "theirs speaks VXLAN" in text)
    lines = netloom(lab, "node-2", "get", "routes", "-o", "wide").splitlines()
    words = {line.split()[0]: line for line in lines}
    assert "foreign" in words["192.168.100.0/24"] and "bird" in words["10.99.0.0/24"]
    [to_node] = [line for line in lines if " node-1 " in line and line.startswith("10.244.")]
    assert to_node.split()[4:] == ["node", "node-1", "pool-0", "VXLAN:4096:4789", "netloom", "VXLAN,", "by", "pool", "pool-0"]
    assert any(line.startswith("10.244.") and "a pod of this node" in line for line in lines)
    run_at(lab, "node-2", "ip", "link", "delete", "theirs")
    said(lab, "node-2", lambda text: "all is well" in text)


def test_two_nodes_with_one_address_are_found(lab: Lab) -> None:
    """The last one: whoever is asked on the switch afterwards is chance."""
    run_at(lab, "switch", "ip", "link", "set", "node-1", "down")
    run_at(lab, "node-2", "ip", "address", "add", "192.168.100.12/24", "dev", "eth0")
    run_at(lab, "node-0", "ip", "neighbour", "flush", "all")
    text = said(lab, "node-0", lambda text: "two nodes have one address" in text)
    assert "192.168.100.12 is the address of node node-1, and node node-2 answers there" in text


def test_a_router_with_a_smaller_link_is_found(bring_up: Raise) -> None:
    """It cuts the tunnel's packets in two, as it may; that is said all the same."""
    lab = bring_up(curious(load(str(EXAMPLES / "two-racks.yaml"))))
    assert settled(lab)
    run_at(lab, "tor-a", "ip", "link", "set", "spine", "mtu", "1450")
    text = said(lab, "a-0", lambda text: "b-0 over the underlay" in text and "b-1 over the underlay" in text)
    assert "packets of 1500 bytes do not come to b-0 over the underlay, 1450 do" in text
    assert "come to a-1" not in text
