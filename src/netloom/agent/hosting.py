"""Hosting: this machine as the value `Host` that a calculation takes.  The kernel is read again when it said that links or
addresses changed; in between the same value is given, so whoever compares sees that nothing did.

The node's address is not changed lightly, for everybody else knows it: a choice stands as long as an interface holds it and it is not
deprecated, or the interface that held it is down, unless `nodeAddresses` says another one.  What is known of that interface stands,
too, so an uplink that goes down takes nothing with it but what the kernel takes away itself.  One exception: a machine that has chosen
before it knew of a cluster, and then finds one that it is not in yet, chooses again, for now it sees where the others are.

Its MTU is that of the interfaces, and of the routes, by which the other nodes are reached; where nobody else is, that of the interface
with its address.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from netloom.agent import addressing, engines
from netloom.agent.facts import default_devices, read_uplinks, way_to, ways_to
from netloom.agent.identity import Identity
from netloom.config import Settings
from netloom.dataplane.netlink import Netlink, device_names
from netloom.dataplane.sysctls import speaks_ipv6
from netloom.errors import ConfigError
from netloom.model.addresses import Address, Interface, Prefix
from netloom.model.edited import alike
from netloom.model.host import Host, Uplink
from netloom.model.resources import Node

log = logging.getLogger(__name__)

_LOOK_UPS = 64  # networks of other nodes whose routes are looked up, at most: racks share their ways


class Hosting:
    """`last`: the addresses that the node had before, as remembered."""

    def __init__(self, settings: Settings, identity: Identity, kernel: Netlink, last: tuple[Interface, ...] = ()) -> None:
        self._settings, self._identity, self._kernel = settings, identity, kernel
        self._uplinks: Mapping[str, Uplink] = {}
        self.indexes: frozenset[int] = frozenset()
        """Of the uplinks, as read last."""
        self._choice = addressing.Choice(last, "as remembered")
        self.problem: str | None = None
        """Why no address can be chosen now; the last choice stands."""
        self._nodes: Mapping[str, Node] = {}
        self._networks: tuple[Address, ...] = ()
        """One address in each network that other nodes are in."""
        self._ways: Mapping[str, int] = {}
        """Interfaces towards the other nodes, and what fits through them."""
        self.far: Mapping[str, str] = {}
        """As probes have found."""
        self._met, self._free = bool(last), False
        """Whether it knows of a cluster; whether the choice need not stand."""
        self.engines = engines.choose(settings.tunnel_engine)
        """Who carries IPIP and UDP, and why."""
        self.stale = True
        self._ipv6 = True
        self._last: tuple[tuple[tuple[Prefix, ...], tuple[Address, ...], Mapping[str, str]], Host] | None = None
        """The value that was given last, and what it was made from besides what was read."""

    @property
    def addressed(self) -> bool:
        return bool(self._choice.addresses)

    @property
    def choice(self) -> addressing.Choice:
        return self._choice

    def heard(self, nodes: Mapping[str, Node]) -> None:
        """The nodes of the cluster, this one included once it is registered."""
        if alike(nodes, self._nodes, lambda node: node.spec.addresses):
            self._nodes = nodes
            return
        self._nodes, self.stale = nodes, True
        others = (a for name, node in nodes.items() if name != self._settings.node_name for a in node.spec.addresses)
        self._networks = tuple({address.network: address.ip for address in others}.values())
        if not self._met and nodes:
            self._met, self._free = True, self._settings.node_name not in nodes

    def ways_changed(self) -> bool:
        """Somebody changed routes: whether that concerns the ways to other nodes."""
        self.stale = self.stale or self._towards() != self._ways
        return self.stale

    def host(self, blocks: Iterable[Prefix], tunnel_addresses: Iterable[Address], bridges: Collection[str]) -> Host:
        if self.stale:
            self._read(bridges)
            self._last = None
        basis = (tuple(sorted(blocks, key=lambda b: (b.version, b))), tuple(tunnel_addresses), self.far)
        if self._last is None or self._last[0] != basis:
            self._last = basis, self._made(*basis)
        return self._last[1]

    def _made(self, blocks: tuple[Prefix, ...], tunnel_addresses: tuple[Address, ...], far: Mapping[str, str]) -> Host:
        settings = self._settings
        return Host(
            node=settings.node_name,
            node_id=self._identity.id,
            addresses=self._choice.addresses,
            uplinks=self._uplinks,
            vtep_mac=self._identity.vtep_mac,
            blocks=blocks,
            tunnel_addresses=tunnel_addresses,
            mtu=self._uplink_mtu(),
            vni=settings.vxlan_vni,
            port=settings.vxlan_port,
            udp_port=settings.udp_port,
            probe_port=settings.probe_port,
            ways=tuple(sorted(self._ways)),
            far=far,
            ipv6=self._ipv6,
            engines=engines.chosen(self.engines),
            early=settings.tunnel_xdp,
        )

    def _read(self, bridges: Collection[str]) -> None:
        default = default_devices(self._kernel)
        found = read_uplinks(self._kernel, bridges, default)
        self.indexes = frozenset(index for index, name in device_names(self._kernel).items() if name in found)
        choice, self.problem = self._chosen(found, default)
        self._free = False
        if choice != self._choice:
            log.info("node address %s", choice)
        self._choice, self._uplinks, self.stale = choice, _with_those_that_held(choice.addresses, found, self._uplinks), False
        self._ways, self._ipv6 = self._towards(), speaks_ipv6()

    def _chosen(self, found: Mapping[str, Uplink], default: Sequence[str]) -> tuple[addressing.Choice, str | None]:
        """The choice, and why it is not a better one."""
        present = self._choice
        down = [
            name for address in present.addresses for name in self._holders(address) if name in found and not found[name].up
        ]
        held = {address.ip for uplink in found.values() for address in uplink.addresses if address.ip not in uplink.deprecated}
        stands = bool(present.addresses) and not self._free and (bool(down) or held >= {a.ip for a in present.addresses})
        try:
            choice = addressing.choose(found, default, self._steering(stands=stands))
        except ConfigError as e:
            return present, e.sentence
        if stands and not self._settings.node_addresses and not set(choice.addresses) & set(present.addresses):
            return present, f"{down[0]} is down, which holds this node's address" if down else None
        return choice, None

    def _steering(self, *, stands: bool) -> addressing.Steering:
        """Where the other nodes are matters only to who has to choose."""
        nodes = {} if stands else self._nodes
        others = [a.ip for name, n in nodes.items() if name != self._settings.node_name for a in n.spec.addresses]
        return addressing.steering(self._settings, others, reached(self._kernel, self._settings))

    def _holders(self, address: Interface) -> list[str]:
        return [name for name, uplink in self._uplinks.items() if any(a.ip == address.ip for a in uplink.addresses)]

    def _uplink_mtu(self) -> int:
        """The smallest of the interfaces that hold the node's addresses, and of the ways to other nodes; 0 if there is none."""
        own = {address.ip for address in self._choice.addresses}
        held = (u.mtu for u in self._uplinks.values() if own & {a.ip for a in u.addresses})
        return min((*held, *self._ways.values()), default=0)

    def _towards(self) -> dict[str, int]:
        """Asked of the kernel: it knows every rule and route."""
        found: dict[str, int] = {}
        for address in islice(self._networks, _LOOK_UPS):
            indexes, own = ways_to(self._kernel, address)
            for index in indexes:
                try:
                    uplink = self._uplinks.get(socket.if_indextoname(index))
                except OSError:  # it has just gone
                    continue
                if uplink is not None:
                    mtu = min(uplink.mtu, own or uplink.mtu)
                    found[uplink.name] = min(mtu, found.get(uplink.name, mtu))
        return found


def reached(kernel: Netlink, settings: Settings) -> dict[Address, Address]:
    """What packets to the settings' destinations leave with."""
    destinations = {method.destination for method in addressing.methods(settings).values() if method.destination}
    ways = {destination: way_to(kernel, destination) for destination in destinations}
    return {destination: way.source for destination, way in ways.items() if way and way.source}


def _with_those_that_held(
    addresses: Iterable[Interface], found: Mapping[str, Uplink], before: Mapping[str, Uplink]
) -> dict[str, Uplink]:
    """The kernel takes IPv6 addresses away from an interface that goes down; for us it holds them until another one does."""
    held = {address.ip for uplink in found.values() for address in uplink.addresses}
    lost = {address.ip for address in addresses} - held
    kept = {name: replace(uplink, up=False) for name, uplink in before.items() if lost & {a.ip for a in uplink.addresses}}
    return {**found, **kept}
