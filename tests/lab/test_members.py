"""Nodes come, change and go while the others' pods talk: nothing is lost between those that stay."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from netloom.dataplane import netns
from netloom.errors import CniError
from netloom.lab import sandboxes
from netloom.lab.cluster import Lab, datastore_of
from netloom.lab.topology import Topology, one_switch
from netloom.model.addresses import Interface
from netloom.model.resources import Encapsulation, NodeSpec
from tests.lab.conftest import Raise, settled
from tests.lab.test_live_change import Change, changing, inside, streams
from tests.waiting import eventually

MOVED = "node-0"
ICMP = 1
PROBES = (9478).to_bytes(2, "big")  # probePort


def choosing_for_itself(topology: Topology, **settings: object) -> Topology:
    """Its agents are told no address."""
    return msgspec.structs.replace(topology, settings={"nodeAddresses": [], **settings})


def spec_of(change: Change, name: str) -> NodeSpec:
    return next(node for node in change.nodes() if node.name == name).spec


def another(address: Interface) -> Interface:
    return ipaddress.ip_interface(f"{address.ip + 100}/{address.network.prefixlen}")


def leaves_from(lab: Lab, node: str, address: Interface) -> Callable[[], bool]:
    """Whether another node is sent pods' packets from there: agents' probes may go from there earlier."""

    def heard() -> bool:
        with lab.namespace(node) as namespace, netns.entered(namespace):
            cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            cable.bind(("eth0", 3))
        with cable, suppress(TimeoutError):
            cable.settimeout(1.0)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                frame = cable.recv(1 << 16)
                source, ports = frame[26:30], (frame[34:36], frame[36:38])
                if source == address.ip.packed and frame[23] != ICMP and PROBES not in ports:
                    return True
        return False

    return heard


def drain(lab: Lab, node: str, *options: str) -> str:
    words = [sys.executable, "-m", "netloom", "drain", node, *options, "--datastore", datastore_of(lab.name)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


WAYS = [
    *(
        (encapsulation, "auto")
        for encapsulation in (Encapsulation.NONE, Encapsulation.VXLAN, Encapsulation.IPIP, Encapsulation.UDP)
    ),
    (Encapsulation.UDP, "forwarder"),
]


@pytest.mark.parametrize(("encapsulation", "engine"), WAYS)
def test_a_node_gets_another_address_while_it_has_the_old_one(
    bring_up: Raise, encapsulation: Encapsulation, engine: str
) -> None:
    """Datagrams are left to tc: unpacked by the driver they would not show where they come from."""
    topology = one_switch(nodes=2, pods=2, encapsulation=encapsulation)
    lab = bring_up(choosing_for_itself(topology, tunnelXdp=False, tunnelEngine=engine))
    assert settled(lab)
    assert_readdressed(lab, seen=encapsulation is not Encapsulation.NONE)


def assert_readdressed(lab: Lab, *, seen: bool = True, patience: float = 30.0) -> None:
    """`seen`: its address is on packets that pods send."""
    with changing(lab) as change, streams(lab) as sent:
        old = spec_of(change, MOVED).addresses
        new = tuple(map(another, old))
        inside(lab, MOVED, "sysctl -q -w net.ipv4.conf.eth0.promote_secondaries=1")
        for address in new:
            inside(lab, MOVED, f"ip address add {address} dev eth0{' nodad' if address.version == 6 else ''}")
        for address in old:
            inside(lab, MOVED, f"ip address change {address} dev eth0 preferred_lft 0 valid_lft forever")
        eventually(lambda: spec_of(change, MOVED).addresses == new, patience)
        assert spec_of(change, MOVED).former == tuple(address.ip for address in old)
        if seen:
            eventually(leaves_from(lab, "node-1", new[0]), patience)
        # the kernel takes the subnet's route away with its first address, and only then puts that of the next one there
        inside(lab, MOVED, f"ip route add {new[0].network} dev eth0 metric 4096")
        for address in old:
            inside(lab, MOVED, f"ip address del {address} dev eth0")
        eventually(lambda: spec_of(change, MOVED).former == (), patience)
        goal = sent.sent + 500
        eventually(lambda: sent.sent >= goal, patience)
    assert "\n".join(sent.lost) == ""


def test_a_node_is_drained_and_taken_out_and_another_one_joins(bring_up: Raise, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pods go by themselves, and no new ones come; those of the others hear nothing of it."""
    lab = bring_up(one_switch(nodes=3, pods=3))
    assert settled(lab)
    gone, pod = lab.topology.nodes[2], lab.topology.pods[2]
    with changing(lab) as change, streams(lab, pods=("pod-0", "pod-1")) as sent:
        assert drain(lab, gone.name) == f"{gone.name} takes no new pods; it has 1 pod left\n"
        lab.detach((pod,))
        eventually(lambda: "it has none left" in drain(lab, gone.name))
        with monkeypatch.context() as impatient, pytest.raises(CniError, match="it is drained"):
            impatient.setattr(sandboxes, "_PATIENCE", 0.0)
            lab.attach((pod,))
        lab.stop_agent(gone.name)
        change.delete(gone.name)
        eventually(lambda: "192.168.100.13" not in inside(lab, "node-0", "bridge fdb show dev loom.vxlan"))
        lab.start_agents((gone,))  # it comes back as it was
        assert drain(lab, gone.name, "--undo") == f"{gone.name} takes new pods\n"
        lab.attach((pod,))
    assert "\n".join(sent.lost) == ""
    assert settled(lab)
