"""A tunnel of ours between two nodes (`tests.tunnel_pair`), made by the drivers of a pass.  An agent that starts anew is `restart`: all
that it has is what the kernel has."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from netloom.dataplane import netns
from netloom.dataplane.addresses import Addresses
from netloom.dataplane.bpf import pins
from netloom.dataplane.links import Links
from netloom.dataplane.neighbours import Neighbours
from netloom.dataplane.netlink import Netlink
from netloom.dataplane.routes import Routes
from netloom.dataplane.sysctls import Sysctls
from netloom.model.addresses import Address, Mac, parse_address, parse_prefix
from netloom.model.desired import AddressKey, Carrier, Desired, Engine, Route, RouteKey, SenderKey, Tunnel, TunnelKey
from netloom.reconcile import Driver, Outcome, reconcile
from netloom.tunnel.ebpf import Counters, Programs, Senders, Store, Tunnels
from tests.kernel.iproute import run
from tests.tunnel_pair import PORT, Node, pair

OVERHEAD = {(Carrier.IPIP, 4): 20, (Carrier.IPIP, 6): 40, (Carrier.UDP, 4): 28, (Carrier.UDP, 6): 48}


@dataclass(frozen=True)
class Way:
    """`version`: the family of outer packets."""

    carrier: Carrier
    version: int

    def __str__(self) -> str:
        return f"{self.carrier.value} over IPv{self.version}"

    @property
    def device(self) -> str:
        return f"loom.{self.carrier.value}"

    @property
    def mtu(self) -> int:
        return 1500 - OVERHEAD[self.carrier, self.version]

    def outer(self, node: Node) -> Address:
        return parse_address(node.addresses[0 if self.version == 4 else 1])


WAYS = [Way(carrier, version) for carrier in Carrier for version in (4, 6)]


def desired(way: Way, node: Node) -> Desired:
    """As the calculation has it."""
    peer, device = node.other, way.device
    mac = Mac(f"66:00:00:00:00:0{node.number}")
    tunnel = Tunnel(
        mac, way.mtu, way.carrier, Engine.EBPF, way.outer(node), PORT if way.carrier is Carrier.UDP else 0, ("up0",)
    )
    gateways = (parse_address(peer.addresses[0]), parse_address(f"fe80::{peer.number}"))
    prefixes = [parse_prefix(text) for text in peer.prefixes]
    own = [parse_address(text) for text in node.tunnel_addresses]
    return Desired(
        links={device: tunnel},
        addresses={AddressKey(device, ipaddress.ip_interface(a)): None for a in own}
        | {AddressKey(device, ipaddress.ip_interface(f"fe80::{node.number}/64")): None},
        sysctls={
            f"net/ipv{way.version}/conf/lo/forwarding": "1",
            f"net/ipv4/conf/{device}/rp_filter": "2",
            f"net/ipv6/conf/{device}/accept_ra": "0",
        },
        routes={
            RouteKey(prefix, 65536): Route(device, gateway, onlink=True, source=source)
            for prefix, gateway, source in zip(prefixes, gateways, own, strict=True)
        },
        tunnels={TunnelKey(device, prefix): way.outer(peer) for prefix in prefixes},
        senders={SenderKey(device, way.outer(peer)): None},
    )


@dataclass
class Agent:
    """Of one node.  `root`: its bpffs."""

    node: Node
    root: Path
    kernel: Netlink = field(init=False)
    store: Store = field(init=False)
    programs: Programs = field(init=False)

    def __post_init__(self) -> None:
        with netns.entered(self.node.netns):
            self.kernel, self.store = Netlink(), Store(self.root)
        self.programs = Programs(self.kernel, self.store)

    def end(self) -> None:
        self.programs.close()
        self.store.close()
        self.kernel.close()

    def restart(self) -> None:
        self.end()
        self.__post_init__()

    def make(self, want: Desired) -> dict[str, Outcome]:
        """One pass.  What it changed."""
        tables: list[tuple[Driver, object]] = [  # type: ignore[type-arg]  # of any keys and values
            (Links(self.kernel), want.links),
            (Sysctls(), want.sysctls),
            (Addresses(self.kernel), want.addresses),
            (Tunnels(self.store), want.tunnels),
            (Senders(self.store), want.senders),
            (self.programs, {name: link for name, link in want.links.items() if isinstance(link, Tunnel)}),
            (Neighbours(self.kernel), want.neighbours),
            (Routes(self.kernel), want.routes),
        ]
        with netns.entered(self.node.netns):
            found = {driver.name: reconcile(driver, table) for driver, table in tables}  # type: ignore[arg-type]  # as above
        failures = [failure for outcome in found.values() for failure in outcome.failures]
        assert not failures, failures
        return {name: outcome for name, outcome in found.items() if outcome != Outcome()}

    def counters(self, way: Way) -> Counters:
        """Of its one peer."""
        [(peer, counters)] = self.store.counters(way.device)
        assert peer == way.outer(self.node.other)
        return counters

    def run(self, command: str) -> str:
        with netns.entered(self.node.netns):
            return run(command)


@contextmanager
def agents(way: Way, folder: Path, pods_mtu: int = 0) -> Iterator[tuple[Agent, Agent]]:
    """Of two nodes without a tunnel, on one bpffs."""
    pins.mount(folder)
    try:
        with pair(way.version, pods_mtu or way.mtu, persistent=False) as nodes:
            a, b = made = [Agent(node, folder) for node in nodes]
            try:
                yield a, b
            finally:
                for agent in made:
                    agent.end()
    finally:
        pins.unmount(folder)


def without_peer(want: Desired) -> Desired:
    return replace(want, routes={}, tunnels={}, senders={})
