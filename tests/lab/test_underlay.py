"""What lies between the nodes is at fault, and `netloom status` on a node says what, and what helps."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from netloom.dataplane import netns
from netloom.lab.cluster import Lab
from netloom.lab.manifest import load
from netloom.lab.record import folder
from netloom.lab.topology import Topology, one_switch
from netloom.model.resources import Encapsulation
from tests.lab.conftest import Raise, settled

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 60.0


def curious(topology: Topology, **settings: str | float) -> Topology:
    """Nodes ask each other every second, not every minute."""
    return msgspec.structs.replace(topology, settings={"probeInterval": 1.0, **settings})


def run_at(lab: Lab, place: str, *command: str) -> str:
    with lab.namespace(place) as namespace, netns.entered(namespace):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def status(lab: Lab, node: str) -> str:
    config = {"NETLOOM_CONFIG": folder(lab.name, node, "agent.yaml")}
    command = [sys.executable, "-m", "netloom", "status"]
    with lab.namespace(node) as namespace, netns.entered(namespace):
        return subprocess.run(command, env=os.environ | config, capture_output=True, text=True, check=False).stdout


def said(lab: Lab, node: str, good: Callable[[str], bool]) -> str:
    """What `status` says as soon as that is `good`."""
    deadline = time.monotonic() + PATIENCE
    while not good(text := status(lab, node)):
        assert time.monotonic() < deadline, text
        time.sleep(0.3)
    return text


def test_a_link_between_nodes_that_takes_less_is_found_and_over_when_it_takes_more(bring_up: Raise) -> None:
    lab = bring_up(curious(one_switch(nodes=2, pods=2)))
    assert settled(lab)
    run_at(
        lab, "switch", "ip", "link", "set", "node-1", "mtu", "1400"
    )  # it takes a VLAN tag more, cuts nothing, and says nothing
    text = said(lab, "node-0", lambda text: "through loom.vxlan" in text and "over the underlay" in text)
    assert "packets of 1450 bytes do not come to node-1 through loom.vxlan, 1354 do" in text
    assert "the path's MTU is smaller than that of eth0; set mtu: 1354 on every node" in text
    assert "packets of 1500 bytes do not come to node-1 over the underlay, 1404 do" in text
    run_at(lab, "switch", "ip", "link", "set", "node-1", "mtu", "1500")
    said(lab, "node-0", lambda text: "all is well" in text)


def test_a_router_with_a_smaller_link_is_found(bring_up: Raise) -> None:
    """It cuts the tunnel's packets in two, as it may; that is said all the same."""
    lab = bring_up(curious(load(str(EXAMPLES / "two-racks.yaml"))))
    assert settled(lab)
    run_at(lab, "tor-a", "ip", "link", "set", "spine", "mtu", "1450")
    text = said(lab, "a-0", lambda text: "b-0 over the underlay" in text and "b-1 over the underlay" in text)
    assert "packets of 1500 bytes do not come to b-0 over the underlay, 1450 do" in text
    assert "come to a-1" not in text


def test_an_interface_that_loses_large_segments_is_found(bring_up: Raise) -> None:
    """As one whose segmentation offload is broken for packets in tunnels."""
    lab = bring_up(curious(one_switch(nodes=2, pods=2)))
    assert settled(lab)
    rules = "table netdev broken { chain out { type filter hook egress device eth0 priority 0; udp dport 4789 meta length > 1600 drop; }; }"
    run_at(lab, "node-0", "nft", rules)
    text = said(lab, "node-0", lambda text: "stalls" in text)
    assert "TCP to node-1 through loom.vxlan stalls while single packets of 1450 bytes pass" in text
    assert "ethtool -K eth0 tx-udp_tnl-segmentation off" in text
    run_at(lab, "node-0", "nft", "delete table netdev broken")
    said(lab, "node-0", lambda text: "all is well" in text)


def test_a_firewall_between_the_nodes_that_drops_tunnels_is_found(bring_up: Raise) -> None:
    lab = bring_up(curious(one_switch(nodes=2, pods=2)))
    assert settled(lab)
    run_at(lab, "switch", "nft", "table bridge wall { chain c { type filter hook forward priority 0; udp dport 4789 drop; }; }")
    text = said(lab, "node-0", lambda text: "through loom.vxlan" in text)
    assert "nothing comes to node-1 through loom.vxlan, and over the underlay it does" in text


def test_a_node_behind_a_translator_is_found(bring_up: Raise) -> None:
    topology = curious(one_switch(nodes=2, pods=2, encapsulation=Encapsulation.NONE))
    lab = bring_up(topology)
    assert settled(lab)
    run_at(lab, "node-1", "ip", "address", "add", "192.168.100.99/24", "dev", "eth0")
    rules = "table ip theirs { chain c { type filter hook postrouting priority 100; udp dport 9478 ip saddr set 192.168.100.99; }; }"
    run_at(lab, "node-1", "nft", rules)
    text = said(lab, "node-1", lambda text: "translator" in text)
    assert "node node-0 sees this node as 192.168.100.99, not as 192.168.100.12" in text


def test_two_nodes_with_one_address_are_found(bring_up: Raise) -> None:
    lab = bring_up(curious(one_switch(nodes=3, pods=3)))
    assert settled(lab)
    assert ipaddress.ip_address("192.168.100.12") in {a.ip for a in lab.topology.node_addresses(lab.topology.nodes[1])}
    # node-2 takes node-1's address, and whoever is asked on the switch now is chance: so node-1 loses its cable
    run_at(lab, "switch", "ip", "link", "set", "node-1", "down")
    run_at(lab, "node-2", "ip", "address", "add", "192.168.100.12/24", "dev", "eth0")
    run_at(lab, "node-0", "ip", "neighbour", "flush", "all")
    text = said(lab, "node-0", lambda text: "two nodes have one address" in text)
    assert "192.168.100.12 is the address of node node-1, and node node-2 answers there" in text
