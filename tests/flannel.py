"""A node that is Flannel's in all but name, built by hand with `ip` at the other end of a machine's uplink: what flanneld would have
made there, and what it would have told of itself.

    with flannel_node(machine, "vxlan", store) as node:        192.168.77.2 has 10.244.99.0/24
        node.learn(ours, block, tunnel_address, mac)           as from our lease
        node.pod, node.address                                 a container there

Forms as in Flannel: `flannel.1` with VNI 1 on port 8472, routes alone (host-gw), `flannel0` with a process on port 8285 (udp).
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from netloom.dataplane import netns
from netloom.datastore import Datastore
from netloom.model.addresses import Address, Mac, Prefix
from netloom.model.resources import Claim, IPBlock, IPBlockSpec, Metadata, Node, NodeSpec, block_name
from tests.agent_process import Machine
from tests.kernel.iproute import run

UNDERLAY = "192.168.77.2"
SUBNET: Prefix = ipaddress.ip_network("10.244.99.0/24")
POD = ipaddress.ip_address("10.244.99.2")
_MAC = Mac("5e:f1:a0:00:00:01")
_OVERHEADS = {"vxlan": 50, "host-gw": 0, "udp": 28, "ipip": 20}


@dataclass(slots=True)
class FlannelNode:
    """`namespace`: the node's; `pod`: a container's in it, whose address is `address`."""

    kind: str
    namespace: int
    pod: int
    stack: ExitStack
    address: Address = field(default=POD)

    def learn(self, ours: str, block: Prefix, tunnel_address: Address | None, mac: Mac | None) -> None:
        """What flanneld does with a lease of ours."""
        with netns.entered(self.namespace):
            match self.kind:
                case "vxlan":
                    run(f"ip neighbour replace {tunnel_address} lladdr {mac} dev flannel.1 nud permanent")
                    run(f"bridge fdb replace {mac} dev flannel.1 dst {ours} self permanent")
                    run(f"ip route replace {block} via {tunnel_address} dev flannel.1 onlink")
                case "host-gw":
                    run(f"ip route replace {block} via {ours} dev eth0")
                case "ipip":
                    run(f"ip route replace {block} via {ours} dev flannel.ipip onlink")
                case "udp":
                    self.stack.enter_context(_udp_loop(f"{block}={ours}"))


@contextmanager
def flannel_node(machine: Machine, kind: str, store: Datastore) -> Iterator[FlannelNode]:
    with ExitStack() as stack:
        pod = netns.create()
        stack.callback(os.close, pod)
        with netns.entered(machine.outside):
            _container(pod, 1500 - _OVERHEADS[kind])
            _device(kind)
        _tell(store)
        yield FlannelNode(kind, machine.outside, pod, stack)


def _container(pod: int, mtu: int) -> None:
    """On `cni0`, as Flannel's delegate makes it."""
    run("sysctl -q -w net.ipv4.ip_forward=1")
    run("ip link add cni0 type bridge")
    run(f"ip address add {SUBNET[1]}/{SUBNET.prefixlen} dev cni0")
    run(f"ip link add veth99 mtu {mtu} type veth peer name eth0 netns /proc/{os.getpid()}/fd/{pod}")
    run("ip link set veth99 master cni0 up")
    run(f"ip link set cni0 mtu {mtu} up")
    with netns.entered(pod):
        run(f"ip link set eth0 mtu {mtu} up")
        run(f"ip address add {POD}/{SUBNET.prefixlen} dev eth0")
        run(f"ip route add default via {SUBNET[1]}")


def _device(kind: str) -> None:
    match kind:
        case "vxlan":
            run(f"ip link add flannel.1 address {_MAC} type vxlan id 1 dev eth0 local {UNDERLAY} dstport 8472 nolearning")
            run(f"ip address add {SUBNET[0]}/32 dev flannel.1")
            run("ip link set flannel.1 mtu 1450 up")
        case "ipip":
            run(f"ip link add flannel.ipip type ipip local {UNDERLAY} dev eth0")
            run(f"ip address add {SUBNET[0]}/32 dev flannel.ipip")
            run("ip link set flannel.ipip mtu 1480 up")
        case "udp":
            run("ip tuntap add flannel0 mode tun")
            run(f"ip address add {SUBNET[0]}/32 dev flannel0")
            run("ip link set flannel0 mtu 1472 up")
            run("ip route add 10.244.0.0/16 dev flannel0")


@contextmanager
def _udp_loop(route: str) -> Iterator[None]:
    """Flannel's data path for `udp` is a loop in C; this is another."""
    with tempfile.TemporaryDirectory(prefix="nl-") as folder:
        program = f"{folder}/udp_loop"
        source = os.path.join(os.path.dirname(__file__), "..", "bench", "udp_loop.c")
        subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
        with subprocess.Popen([program, "flannel0", UNDERLAY, "8285", route], stdout=subprocess.PIPE) as loop:
            try:
                assert loop.stdout and loop.stdout.readline().strip() == b"ready"
                yield
            finally:
                loop.kill()


def _tell(store: Datastore) -> None:
    """Our nodes know of it by what it says of itself, as they know of each other."""
    spec = NodeSpec(
        id="flannel",
        addresses=(ipaddress.ip_interface(f"{UNDERLAY}/24"),),
        tunnel_addresses=(SUBNET[0],),
        vtep_mac=_MAC,
        mtu=1500,
    )
    store.create(Node(metadata=Metadata(name="flannel"), spec=spec))
    claim = Claim(cidr=SUBNET, node="flannel", node_id=spec.id)
    store.create(IPBlock(metadata=Metadata(name=block_name(SUBNET)), spec=IPBlockSpec(cidr=SUBNET, claims=(claim,))))
