"""What lies between the nodes is at fault, and `netloom status` on a node says what, and what helps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
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
from tests.lab.test_firewalls import SOMEBODYS_OWN

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


def says(lab: Lab, node: str, *words: str, but_not: str | None = None) -> None:
    """Returns as soon as `status` says all of it at once, and nothing of what it must not.  On a busy machine a look may find less
    than there is, or more, until the next one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        text = netloom(lab, node, "status")
        if all(each in text for each in words) and (but_not is None or but_not not in text):
            return
        assert time.monotonic() < deadline, text
        time.sleep(0.3)


def test_where_all_is_well_every_node_answers(lab: Lab) -> None:
    addresses = "address 192.168.100.11/24, fd00:192:168:100::b/64: set by nodeAddresses"
    says(lab, "node-0", "probes: 2 of 2 nodes answer", addresses, "all is well")


def test_a_link_that_takes_less_is_found_and_over_when_it_takes_more(lab: Lab) -> None:
    run_at(
        lab, "switch", "ip", "link", "set", "node-1", "mtu", "1400"
    )  # it takes a VLAN tag more, cuts nothing, and says nothing
    found = (
        "packets of 1450 bytes do not come to node-1 through loom.vxlan, 1354 do",
        "the path's MTU is smaller than that of eth0; set mtu: 1354 in FelixConfiguration default",
        "packets of 1500 bytes do not come to node-1 over the underlay, 1404 do",
    )
    says(lab, "node-0", *found, but_not="come to node-2")
    run_at(lab, "switch", "ip", "link", "set", "node-1", "mtu", "1500")
    says(lab, "node-0", "all is well")


def test_an_interface_that_loses_large_segments_is_found(lab: Lab) -> None:
    """As one whose segmentation offload is broken for packets in tunnels."""
    rule = "type filter hook egress device eth0 priority 0; udp dport 4789 meta length > 1600 drop"
    run_at(lab, "node-0", "nft", f"table netdev broken {{ chain out {{ {rule}; }}; }}")
    found = "TCP to node-1 through loom.vxlan stalls while single packets of 1450 bytes pass"
    says(lab, "node-0", found, "ethtool -K eth0 tx-udp_tnl-segmentation off")
    run_at(lab, "node-0", "nft", "delete table netdev broken")
    says(lab, "node-0", "all is well")


def test_a_firewall_between_the_nodes_that_drops_tunnels_is_found(lab: Lab) -> None:
    run_at(lab, "switch", "nft", "table bridge wall { chain c { type filter hook forward priority 0; udp dport 4789 drop; }; }")
    says(lab, "node-0", "nothing comes to node-1 through loom.vxlan, and over the underlay it does")
    run_at(lab, "switch", "nft", "delete table bridge wall")
    says(lab, "node-0", "all is well")


def test_a_node_behind_a_translator_is_found(lab: Lab) -> None:
    run_at(lab, "node-1", "ip", "address", "add", "192.168.100.99/24", "dev", "eth0")
    rule = 'type filter hook postrouting priority 100; oifname "eth0" udp dport 9478 ip saddr set 192.168.100.99'
    run_at(lab, "node-1", "nft", f"table ip theirs {{ chain c {{ {rule}; }}; }}")
    found = "node node-0 sees this node as 192.168.100.99, not as 192.168.100.12: an address translator stands between"
    says(lab, "node-1", found)
    run_at(lab, "node-1", "nft", "delete table ip theirs")
    run_at(lab, "node-1", "ip", "address", "del", "192.168.100.99/24", "dev", "eth0")
    says(lab, "node-1", "all is well")


def test_foreign_tunnels_are_named_and_routes_say_whose_they_are(lab: Lab) -> None:
    run_at(lab, "node-2", "ip", "link", "add", "theirs", "type", "vxlan", "id", "7", "dstport", "4789", "dev", "eth0")
    run_at(lab, "node-2", "ip", "route", "add", "10.99.0.0/24", "via", "192.168.100.1", "proto", "bird", "metric", "600")
    says(lab, "node-2", "theirs speaks VXLAN on UDP port 4789")
    lines = netloom(lab, "node-2", "get", "routes", "-o", "wide").splitlines()
    words = {line.split()[0]: line for line in lines}
    assert "foreign" in words["192.168.100.0/24"] and "bird" in words["10.99.0.0/24"]
    [to_node] = [line for line in lines if " node-1 " in line and line.startswith("10.244.")]
    assert to_node.split()[4:] == ["node", "node-1", "pool-0", "VXLAN:4096:4789", "netloom", "VXLAN,", "by", "pool", "pool-0"]
    assert any(line.startswith("10.244.") and "a pod of this node" in line for line in lines)
    run_at(lab, "node-2", "nft", SOMEBODYS_OWN)  # besides: neither is forgotten over the other
    says(lab, "node-2", "theirs speaks VXLAN on UDP port 4789", "inet theirs in drops what other nodes' tunnels send")
    run_at(lab, "node-2", "nft", "delete table inet theirs")
    run_at(lab, "node-2", "ip", "link", "delete", "theirs")
    says(lab, "node-2", "all is well")


def test_two_nodes_with_one_address_are_found(lab: Lab) -> None:
    """The last one: whoever is asked on the switch afterwards is chance."""
    run_at(lab, "switch", "ip", "link", "set", "node-1", "down")
    run_at(lab, "node-2", "ip", "address", "add", "192.168.100.12/24", "dev", "eth0")
    run_at(lab, "node-0", "ip", "neighbour", "flush", "all")
    found = "192.168.100.12 is the address of node node-1, and node node-2 answers there: two nodes have one address"
    says(lab, "node-0", found)


def test_a_router_with_a_smaller_link_is_found(bring_up: Raise) -> None:
    """It cuts the tunnel's packets in two, as it may; that is said all the same."""
    lab = bring_up(curious(load(str(EXAMPLES / "two-racks.yaml"))))
    assert settled(lab)
    run_at(lab, "tor-a", "ip", "link", "set", "spine", "mtu", "1450")
    found = (f"packets of 1500 bytes do not come to {node} over the underlay, 1450 do" for node in ("b-0", "b-1"))
    says(lab, "a-0", *found, but_not="come to a-1")
