"""A lab as data: what there is, and what is plugged into what.  Nothing here touches the machine.

    switch   a rack's switch: one link, with one subnet per family
    router   joins switches and forwards between them; with an AS number it speaks BGP
    node     a machine of the cluster, plugged into one switch, or more
    pod      runs on a node
    member   of an etcd, which then is the datastore: a machine that runs nothing else, on a switch
    pool     addresses for pods, and how their packets cross from node to node
    resource whatever else the cluster is told from the start: a manifest, as `netloom apply` takes it

Addresses follow from the order of the declarations: on each subnet the routers take .1, .2, …, the nodes .11, .12, …,
members of an etcd what comes after the nodes.
A node's own addresses are those on its first switch.
`cables` and `static_routes` turn a topology into the two tables that the underlay is built from.

All names live in one space of at most 15 characters: a name is also the port's name on the switch, and `<lab>-<name>` is
the network namespace.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from netloom.model import manifest
from netloom.model.addresses import Address, Interface, Prefix
from netloom.model.attachments import Wiring
from netloom.model.resources import API_VERSION, AnyResource, Encapsulation, IPPoolSpec
from netloom.model.validation import check_labels, check_name

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,13}[a-z0-9])?\Z")
FIRST_ROUTER, FIRST_NODE = 1, 11
UPLINK = "eth"
"""A node's interfaces into its switches: eth0, eth1…  A router's are named after the switches."""
_LAST_AS = 2**32 - 2  # RFC 7300 reserves the last one
Manifest = dict[str, Any]
"""Any: what it holds is checked by who reads manifests."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    name: str

    def __post_init__(self) -> None:
        check_place_name(self.name)


class Switch(Part, frozen=True, kw_only=True):
    subnets: tuple[Prefix, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.subnets or len({s.version for s in self.subnets}) != len(self.subnets):
            raise ValueError("subnets: one per family, and at least one")


class Router(Part, frozen=True, kw_only=True):
    """With `as_number` it runs a BIRD.  `peers`: routers and nodes that it has a session with; between two routers one of them says
    it.  `cluster_id`: it reflects what peers of its own AS say to its other peers.  `bfd`: a peer that falls silent is gone at once;
    without, routes of one that restarts stay (graceful restart)."""

    switches: tuple[str, ...]
    as_number: int = 0
    peers: tuple[str, ...] = ()
    cluster_id: str = ""
    bfd: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_as(self.as_number)
        if not self.as_number and (self.peers or self.cluster_id or self.bfd):
            raise ValueError("asNumber: who has peers, clusterId or bfd needs one")
        if self.cluster_id:
            ipaddress.IPv4Address(self.cluster_id)


class Node(Part, frozen=True, kw_only=True):
    """`uplinks`: further switches, where it has an address, too.  `as_number`: where it differs from the cluster's.  `cluster_id`: it
    reflects routes."""

    switch: str
    uplinks: tuple[str, ...] = ()
    as_number: int = 0
    cluster_id: str = ""
    labels: dict[str, str] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_as(self.as_number)
        if self.cluster_id:
            ipaddress.IPv4Address(self.cluster_id)
        check_labels(self.labels, "labels")

    @property
    def switches(self) -> tuple[str, ...]:
        return (self.switch, *self.uplinks)

    def manifest(self) -> Manifest | None:
        """None: there is nothing to declare of it."""
        said = {"asNumber": self.as_number, "routeReflectorClusterID": self.cluster_id}
        bgp = {field: value for field, value in said.items() if value}
        if not bgp and not self.labels:
            return None
        metadata = {"name": self.name, "labels": self.labels}
        return {"apiVersion": API_VERSION, "kind": "Node", "metadata": metadata, **({"spec": {"bgp": bgp}} if bgp else {})}


class Member(Part, frozen=True, kw_only=True):
    switch: str


class Pod(Part, frozen=True, kw_only=True):
    node: str
    namespace: str = "default"
    labels: dict[str, str] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.namespace, "namespace")
        check_labels(self.labels, "labels")


_P = TypeVar("_P", bound=Part)


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`mtu` is that of the underlay's links, in bytes; `settings` are the agents', over what the lab needs.  `bgp`: every node has a
    BIRD beside its agent.  `resources`: manifests.  Raises ValueError that starts with the field's path."""

    name: str = "lab"
    switches: tuple[Switch, ...]
    routers: tuple[Router, ...] = ()
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...] = ()
    pools: tuple[IPPoolSpec, ...]
    etcd: tuple[Member, ...] = ()
    wiring: Wiring = Wiring.ROUTED
    mtu: int = 1500
    settings: dict[str, str | int | float] = {}
    bgp: bool = False
    resources: tuple[Manifest, ...] = ()

    def __post_init__(self) -> None:
        check_place_name(self.name)
        if not 576 <= self.mtu <= 65535:
            raise ValueError(f"mtu: {self.mtu} is out of range; 576 to 65535")
        self._check_names()
        self._check_references()
        self._check_overlaps()
        for switch in self.switches:
            self._check_room(switch)
        self.declared()

    def switch(self, name: str) -> Switch:
        return next(s for s in self.switches if s.name == name)

    def node(self, name: str) -> Node:
        return next(n for n in self.nodes if n.name == name)

    def routers_on(self, switch: str) -> tuple[Router, ...]:
        return tuple(r for r in self.routers if switch in r.switches)

    def nodes_on(self, switch: str) -> tuple[Node, ...]:
        return tuple(n for n in self.nodes if switch in n.switches)

    def members_on(self, switch: str) -> tuple[Member, ...]:
        return tuple(m for m in self.etcd if m.switch == switch)

    def pods_on(self, node: str) -> tuple[Pod, ...]:
        return tuple(p for p in self.pods if p.node == node)

    def router_addresses(self, router: Router, switch: str) -> tuple[Interface, ...]:
        return _hosts(self.switch(switch), FIRST_ROUTER + self.routers_on(switch).index(router))

    def node_addresses(self, node: Node, switch: str = "") -> tuple[Interface, ...]:
        """On that switch of its, or the first one: its own."""
        switch = switch or node.switch
        return _hosts(self.switch(switch), FIRST_NODE + self.nodes_on(switch).index(node))

    def member_addresses(self, member: Member) -> tuple[Interface, ...]:
        there = self.members_on(member.switch)
        return _hosts(self.switch(member.switch), FIRST_NODE + len(self.nodes_on(member.switch)) + there.index(member))

    def declared(self) -> tuple[AnyResource, ...]:
        """What the manifests say, and a Node of each that has labels, an AS number or a cluster ID.  Raises ValueError."""
        nodes = {f"nodes[{i}]": given for i, node in enumerate(self.nodes) if (given := node.manifest())}
        manifests = {f"resources[{i}]": resource for i, resource in enumerate(self.resources)}
        return tuple(resource for path, given in {**nodes, **manifests}.items() for resource in _read(path, given))

    def _parts(self) -> Iterator[tuple[str, Part]]:
        for field, parts in (
            ("switches", self.switches),
            ("routers", self.routers),
            ("nodes", self.nodes),
            ("etcd", self.etcd),
            ("pods", self.pods),
        ):
            for i, part in enumerate(parts):
                yield f"{field}[{i}]", part

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for path, part in self._parts():
            if part.name in seen:
                raise ValueError(f"{path}.name: {part.name!r} is the name of {seen[part.name]} already")
            seen[part.name] = path

    def _check_references(self) -> None:
        switches = [s.name for s in self.switches]
        speakers = [r.name for r in self.routers if r.as_number] + [n.name for n in self.nodes if self.bgp]
        for i, router in enumerate(self.routers):
            for j, name in enumerate(router.switches):
                _check_known(f"routers[{i}].switches[{j}]", "switch", name, switches)
            for j, name in enumerate(router.peers):
                _check_known(f"routers[{i}].peers[{j}]", "peer that speaks BGP", name, speakers)
        for i, node in enumerate(self.nodes):
            _check_known(f"nodes[{i}].switch", "switch", node.switch, switches)
            for j, name in enumerate(node.uplinks):
                _check_known(f"nodes[{i}].uplinks[{j}]", "switch", name, switches)
            if len(set(node.switches)) != len(node.switches):
                raise ValueError(f"nodes[{i}].uplinks: a switch is named twice")
        for i, member in enumerate(self.etcd):
            _check_known(f"etcd[{i}].switch", "switch", member.switch, switches)
        for i, pod in enumerate(self.pods):
            _check_known(f"pods[{i}].node", "node", pod.node, [n.name for n in self.nodes])

    def _check_overlaps(self) -> None:
        taken: list[tuple[str, Prefix]] = []
        fields = [(f"switches[{i}].subnets[{j}]", p) for i, s in enumerate(self.switches) for j, p in enumerate(s.subnets)]
        for path, prefix in [*fields, *((f"pools[{i}].cidr", pool.cidr) for i, pool in enumerate(self.pools))]:
            for other_path, other in taken:
                if prefix.overlaps(other):
                    raise ValueError(f"{path}: {prefix} overlaps {other} of {other_path}")
            taken.append((path, prefix))

    def _check_room(self, switch: Switch) -> None:
        highest = max(
            FIRST_ROUTER + len(self.routers_on(switch.name)) - 1,
            FIRST_NODE + len(self.nodes_on(switch.name)) + len(self.members_on(switch.name)) - 1,
        )
        if len(self.routers_on(switch.name)) > FIRST_NODE - FIRST_ROUTER:
            raise ValueError(f"routers: more than {FIRST_NODE - FIRST_ROUTER} on {switch.name}")
        for i, subnet in enumerate(switch.subnets):
            if highest >= subnet.num_addresses - 1:
                path = f"switches[{self.switches.index(switch)}].subnets[{i}]"
                raise ValueError(f"{path}: {subnet} is too small, the highest address used is number {highest}")


def check_place_name(name: str) -> None:
    if not _NAME.match(name):
        raise ValueError(f"name: {name!r} is not a name here (a letter, then lower case letters, digits and '-', at most 15)")


def _check_as(number: int) -> None:
    if not 0 <= number <= _LAST_AS:
        raise ValueError(f"asNumber: {number} is out of range; 1 to {_LAST_AS}")


def _check_known(path: str, what: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ValueError(f"{path}: there is no {what} {name!r}; there is {', '.join(known) or 'none'}")


def _read(path: str, given: Manifest) -> Iterator[AnyResource]:
    read = manifest.read([("", json.dumps(given).encode())])
    if read.errors:
        raise ValueError(f"{path}: {str(read.errors[0]).removeprefix(':1: ')}")
    for item in read.items:
        yield item.resource


def _hosts(switch: Switch, number: int) -> tuple[Interface, ...]:
    return tuple(ipaddress.ip_interface((subnet.network_address + number, subnet.prefixlen)) for subnet in switch.subnets)


@dataclass(frozen=True, slots=True)
class Cable:
    """From `interface` of `place` (a node or router) into the port of `switch` that is named after the place."""

    place: str
    interface: str
    switch: str
    addresses: tuple[Interface, ...]


def cables(topology: Topology) -> tuple[Cable, ...]:
    routers = (
        Cable(router.name, switch, switch, topology.router_addresses(router, switch))
        for router in topology.routers
        for switch in router.switches
    )
    nodes = (
        Cable(node.name, f"{UPLINK}{number}", switch, topology.node_addresses(node, switch))
        for node in topology.nodes
        for number, switch in enumerate(node.switches)
    )
    members = (Cable(m.name, f"{UPLINK}0", m.switch, topology.member_addresses(m)) for m in topology.etcd)
    return (*routers, *nodes, *members)


StaticRoute = tuple[Prefix, Address]
_DEFAULT: Mapping[int, Prefix] = {4: ipaddress.IPv4Network("0.0.0.0/0"), 6: ipaddress.IPv6Network("::/0")}


def static_routes(topology: Topology) -> Mapping[str, tuple[StaticRoute, ...]]:
    """What the underlay's routers and machines are configured with: routers reach every subnet on a shortest way, nodes have a
    default route through the first router on their switch."""
    routers = {router.name: tuple(_router_routes(topology, router)) for router in topology.routers}
    nodes = {node.name: tuple(_default_routes(topology, node)) for node in topology.nodes}
    members = {member.name: tuple(_default_routes(topology, member)) for member in topology.etcd}
    return routers | nodes | members


def _default_routes(topology: Topology, node: Node | Member) -> Iterator[StaticRoute]:
    for router in topology.routers_on(node.switch)[:1]:
        for address in topology.router_addresses(router, node.switch):
            yield _DEFAULT[address.version], address.ip


def _router_routes(topology: Topology, router: Router) -> Iterator[StaticRoute]:
    for target, hop in _first_hops(topology, router).items():
        if hop is None:
            continue
        gateways = {a.version: a.ip for a in topology.router_addresses(*hop)}
        for subnet in topology.switch(target).subnets:
            if subnet.version in gateways:
                yield subnet, gateways[subnet.version]


def _first_hops(topology: Topology, start: Router) -> Mapping[str, tuple[Router, str] | None]:
    """Switch → the next router and the switch it is met on; None where `start` is plugged in itself.  Breadth first."""
    hops: dict[str, tuple[Router, str] | None] = dict.fromkeys(start.switches)
    queue = deque(start.switches)
    while queue:
        here = queue.popleft()
        for router in topology.routers_on(here):
            for beyond in router.switches:
                if beyond not in hops:
                    hops[beyond] = hops[here] or (router, here)
                    queue.append(beyond)
    return hops


DUAL_STACK_POOLS = ("10.244.0.0/16", "fd00:10:244::/48")


def one_switch(
    name: str = "lab",
    *,
    nodes: int = 3,
    pods: int = 6,
    encapsulation: Encapsulation = Encapsulation.VXLAN,
    wiring: Wiring = Wiring.ROUTED,
    etcd: int = 0,
) -> Topology:
    """`nodes` nodes on one switch with a router as the way out, `pods` pods dealt out one by one, both families; with `etcd`
    machines more the datastore is there."""
    return Topology(
        name=name,
        switches=(
            Switch(name="switch", subnets=tuple(map(ipaddress.ip_network, ("192.168.100.0/24", "fd00:192:168:100::/64")))),
        ),
        routers=(Router(name="router", switches=("switch",)),),
        nodes=tuple(Node(name=f"node-{i}", switch="switch") for i in range(nodes)),
        pods=tuple(Pod(name=f"pod-{i}", node=f"node-{i % nodes}") for i in range(pods)),
        pools=tuple(
            IPPoolSpec(cidr=ipaddress.ip_network(cidr), encapsulation=encapsulation, nat_outgoing=True)
            for cidr in DUAL_STACK_POOLS
        ),
        wiring=wiring,
        etcd=tuple(Member(name=f"etcd-{i}", switch="switch") for i in range(etcd)),
    )


MESH: Manifest = {"apiVersion": API_VERSION, "kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {}}


def altered(
    topology: Topology,
    *,
    name: str | None = None,
    encapsulation: Encapsulation | None = None,
    wiring: Wiring | None = None,
    mesh: bool = False,
) -> Topology:
    """The same lab with another name, wiring, or encapsulation in every pool; None: as it is.  `mesh`: with BGP, if it has none yet."""
    pools = topology.pools
    if encapsulation is not None:
        pools = tuple(msgspec.structs.replace(pool, encapsulation=encapsulation) for pool in pools)
    if mesh and not topology.bgp:
        topology = msgspec.structs.replace(topology, bgp=True, resources=(*topology.resources, MESH))
    return msgspec.structs.replace(topology, name=name or topology.name, wiring=wiring or topology.wiring, pools=pools)
