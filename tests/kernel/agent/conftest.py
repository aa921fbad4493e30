"""A machine with one agent, a cluster around it that exists in the datastore only, two pods of its own, and things of others."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from netloom.dataplane import netns
from netloom.datastore import Datastore, connect
from netloom.model.addresses import Mac
from netloom.model.resources import Claim, IPBlock, IPBlockSpec, IPPoolSpec, Metadata, Node, NodeSpec, block_name
from tests.agent_process import HASTY, POOLS, Machine, Sandbox, running_machine
from tests.cni_calls import CONFIG, NATIVE, Answer, Document, call
from tests.kernel.iproute import run
from tests.residue import Residue, kernel_residue, quiet_residue

LONG = bool(os.environ.get("NETLOOM_TEST_LONG"))
FLAT = {"flat": IPPoolSpec(cidr=ipaddress.ip_network("10.50.0.0/16"))}
BRIDGED: Document = {**CONFIG, "name": "bridged", "wiring": "bridge"}
FOREIGN_RULES = "table inet other { chain c { type filter hook forward priority 5; ip daddr 203.0.113.1 counter drop; }; }"


@dataclass(slots=True)
class Place:
    """A running machine, its datastore, and what a test needs to know of its pods: host interface and address by name."""

    machine: Machine
    store: Datastore
    pods: dict[str, Sandbox] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, config: Document = CONFIG, *, mortal: bool = False) -> Answer:
        """A pod: its sandbox stays until the place is closed.  `mortal`: or is to be found dead before."""
        sandbox = self.pods[name] = self.machine.make_mortal(name) if mortal else self.machine.make_sandbox(name)
        answer = call(NATIVE, "ADD", self.machine.run_dir, sandbox.container_id, sandbox.path, config)
        if answer.ok:
            [host] = [
                one["name"]
                for one in answer.document["interfaces"]
                if one["name"].startswith("loom") and "." not in one["name"]
            ]
            self.links[name], self.addresses[name] = host, [a.partition("/")[0] for a in answer.addresses]
        return answer

    def delete(self, name: str, config: Document = CONFIG) -> Answer:
        sandbox = self.pods[name]
        return call(NATIVE, "DEL", self.machine.run_dir, sandbox.container_id, sandbox.path, config)

    def residue(self) -> Residue:
        return kernel_residue(self.machine.netns)

    def quiet_residue(self) -> Residue:
        """The kernel's, when all that was asked for before is through."""
        quiet_residue(self.machine)
        return self.residue()

    def run(self, *arguments: str) -> str:
        """A program in the node's namespace."""
        with netns.entered(self.machine.netns):
            return run(*arguments)

    def write_sysctl(self, name: str, value: str) -> None:
        with netns.entered(self.machine.netns), open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
            file.write(value)

    def sysctl(self, name: str) -> str:
        with netns.entered(self.machine.netns), open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()


def remote_node(store: Datastore, number: int, *blocks: str, address: str | None = None) -> None:
    """Another node, as its own agent would declare it, at the machine's other end of the uplink unless told otherwise."""
    name, claims = f"remote-{number}", [ipaddress.ip_network(block) for block in blocks]
    first = next((c.network_address for c in claims if c.version == 4), None)
    spec = NodeSpec(
        id=f"id-{number}",
        addresses=(ipaddress.ip_interface(address or f"192.168.77.{number}/24"),),
        tunnel_addresses=(first,) if first else (),
        vtep_mac=Mac(f"66:00:00:00:00:{number:02x}"),
        mtu=1500,
    )
    store.create(Node(metadata=Metadata(name=name), spec=spec))
    for cidr in claims:
        claim = Claim(cidr=cidr, node=name, node_id=spec.id)
        store.create(IPBlock(metadata=Metadata(name=block_name(cidr)), spec=IPBlockSpec(cidr=cidr, claims=(claim,))))


@contextmanager
def place_of(machine: Machine) -> Iterator[Place]:
    store = connect(machine.datastore)
    made = Place(machine, store)
    with ExitStack() as stack:
        stack.callback(store.close)
        yield made
        for sandbox in made.pods.values():
            stack.callback(machine.remove_sandbox, sandbox)


@pytest.fixture(scope="module")
def inhabited() -> Iterator[Place]:
    """Routed and bridged pods, remote nodes over VXLAN and over plain routes, and interfaces, routes and rules of others."""
    with running_machine({**POOLS, **FLAT}, HASTY) as machine, place_of(machine) as place:
        remote_node(place.store, 2, "10.244.7.0/26", "fd00:244::700/122", "10.50.7.0/26")
        remote_node(place.store, 3, "10.244.8.0/26")
        assert place.add("routed").ok
        assert place.add("bridged", BRIDGED).ok
        # with an address of its own: else it takes that of a port, and forgets its neighbours whenever that changes
        place.run("ip link add other0 address 02:00:00:00:98:00 type bridge")
        place.run("ip link add other1 master other0 type veth peer name other2")
        for name in ("other0", "other1", "other2"):
            place.run(f"ip link set {name} up")
        place.run("ip address add 203.0.113.1/24 dev other0")
        place.run("ip route add 198.51.100.0/24 via 203.0.113.9 proto static")
        place.run("ip neighbour add 203.0.113.9 lladdr 02:00:00:00:99:99 dev other0 nud permanent")
        place.run("ip route add 10.99.0.0/24 dev other0 proto bird metric 600")
        place.run("nft", FOREIGN_RULES)
        yield place
