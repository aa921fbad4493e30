"""Resources: what people and nodes declare, as frozen values in the shape of Kubernetes objects.

    apiVersion: netloom.io/v1
    kind: IPPool
    metadata: {name: default}
    spec: {cidr: 10.244.0.0/16, encapsulation: VXLAN, natOutgoing: true}

The same structs are the manifest, the record in the datastore and the value inside; decoding is strict (unknown field,
wrong type, missing field) and each struct checks its own values, so whoever holds a resource may trust it.  What one
resource cannot know alone (pools that overlap) is checked by `admission.check_against`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec

from netloom.model import objects
from netloom.model.addresses import (
    Address,
    Interface,
    Mac,
    Prefix,
    contains,
    overlap,
    parse_address,
    parse_interface,
    parse_prefix,
)
from netloom.model.attachments import PublishedPort
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.bgp_filter import BGPFilter
from netloom.model.bgp_node import NodeBGP
from netloom.model.bgp_peer import BGPPeer
from netloom.model.bgp_values import AsNumber, Duration, parse_as_number, parse_duration
from netloom.model.forms import Method, check_form, check_mtu, check_port, check_vni
from netloom.model.secret import Secret
from netloom.model.selectors import parse_selector
from netloom.model.service import Service
from netloom.model.showing import shown
from netloom.model.validation import check_interface_name, check_mac, check_network_name, check_object_name

API_VERSION = objects.API_VERSION
Metadata = objects.Metadata
Resource = objects.Resource
Spec = objects.Spec
EMPTY: Mapping[str, str] = {}


class Encapsulation(enum.Enum):
    """How a pool's packets cross from node to node.  CrossSubnet: plain routes between neighbours, a tunnel beyond."""

    NONE = "None"
    VXLAN = "VXLAN"
    VXLAN_CROSS_SUBNET = "VXLANCrossSubnet"
    IPIP = "IPIP"
    IPIP_CROSS_SUBNET = "IPIPCrossSubnet"
    UDP = "UDP"
    UDP_CROSS_SUBNET = "UDPCrossSubnet"

    @property
    def method(self) -> Method:
        return Method(self.value.removesuffix("CrossSubnet"))

    @property
    def cross_subnet(self) -> bool:
        return self.value.endswith("CrossSubnet")


class NodeSpec(Spec, frozen=True, kw_only=True):
    """What a node tells the others of itself.

    `id` is the node's incarnation (a UUID): a node deleted and made again under the same name is another node.  `machine` is
    what runs as this node now: boot and network namespace of its kernel.
    `addresses`: its underlay addresses with their networks, at most one per family.  `former`: those before these, which it still has,
    and may still send from.  `tunnel_addresses`: its own side of a
    tunnel, out of its own blocks.  `vtep_mac` survives reboots.  `mtu`: of the uplink, in bytes, 0 if not known.
    `receives`: forms (model.forms) in which others may send to it now, the newest first; empty where a node does not say.  `sends`:
    those in which it sends, or is going to, the oldest first.  `generation` grows with each change of either.

    Two fields are people's: `bgp`, and `draining`: others are to go elsewhere with what this node only passes on.
    """

    id: str = ""
    machine: str = ""
    addresses: tuple[Interface, ...] = ()
    former: tuple[Address, ...] = ()
    tunnel_addresses: tuple[Address, ...] = ()
    vtep_mac: Mac | None = None
    mtu: int = 0
    receives: tuple[str, ...] = ()
    sends: tuple[str, ...] = ()
    generation: int = 0
    bgp: NodeBGP | None = None
    draining: bool | None = None

    def __post_init__(self) -> None:
        told = ("addresses", self.addresses), ("former", self.former), ("tunnelAddresses", self.tunnel_addresses)
        for field, values in told:
            if len({a.version for a in values}) != len(values):
                raise ValueError(f"spec.{field}: at most one address per family")
        if self.vtep_mac is not None:
            check_mac(self.vtep_mac, "spec.vtepMac")
        for field, forms in (("receives", self.receives), ("sends", self.sends)):
            for text in forms:
                check_form(text, f"spec.{field}")

    def address(self, version: int) -> Interface | None:
        return next((a for a in self.addresses if a.version == version), None)

    def tunnel_address(self, version: int) -> Address | None:
        return next((a for a in self.tunnel_addresses if a.version == version), None)

    def of_people(self, said: NodeSpec) -> NodeSpec:
        """With people's fields as they are in `said`."""
        return msgspec.structs.replace(self, bgp=said.bgp, draining=said.draining)


class Node(Resource, frozen=True, kw_only=True, tag="Node"):
    PLURAL = "nodes"
    spec: NodeSpec = NodeSpec()


class Namespace(Resource, frozen=True, kw_only=True, tag="Namespace"):
    """A namespace's labels, for namespaceSelector; it has no spec."""

    PLURAL = "namespaces"


BLOCK_SIZES: Mapping[int, range] = {4: range(20, 33), 6: range(116, 129)}
DEFAULT_BLOCK_SIZE: Mapping[int, int] = {4: 26, 6: 122}


NETWORK_LENGTHS: Mapping[int, range] = {4: range(8, 31), 6: range(16, 127)}
"""Prefix lengths that leave a network its own address, a gateway and a pod, and the host the rest of the world."""


_NOT_FOR_PODS: tuple[Prefix, ...] = tuple(
    map(
        parse_prefix,
        ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/127", "fe80::/10", "ff00::/8"),
    )
)  # RFC 6890


class IPPoolSpec(Spec, frozen=True, kw_only=True):
    """`network`: the pool belongs to the CNI network of this name, on `node` alone, as a network of Docker does to its host: all of
    it is one link, whose prefix length its pods show and whose `gateway` (the first address, unless said) the bridge holds.
    `disable_bgp_export`: its blocks are told to no BGP peer.
    `ip_range`: the part of it that pods get addresses of; any other they may still ask for by name.
    `internal`: nothing is forwarded into it or out of it.  `isolated`: nor from or to other networks and the cluster's pods."""

    cidr: Prefix
    block_size: int = 0
    encapsulation: Encapsulation = Encapsulation.NONE
    nat_outgoing: bool = False
    node_selector: str = "all()"
    namespace_selector: str = "all()"
    disabled: bool = False
    disable_bgp_export: bool = msgspec.field(default=False, name="disableBGPExport")
    network: str = ""
    node: str = ""
    gateway: Address | None = None
    ip_range: Prefix | None = None
    internal: bool = False
    isolated: bool = True

    def __post_init__(self) -> None:
        version = self.cidr.version
        if self.block_size == 0:
            msgspec.structs.force_setattr(self, "block_size", max(DEFAULT_BLOCK_SIZE[version], self.cidr.prefixlen))
        if self.block_size not in BLOCK_SIZES[version]:
            allowed = BLOCK_SIZES[version]
            raise ValueError(
                f"spec.blockSize: {self.block_size} is out of range; IPv{version} takes {allowed.start} to {allowed.stop - 1}"
            )
        if self.block_size < self.cidr.prefixlen:
            raise ValueError(f"spec.blockSize: a /{self.block_size} block does not fit into {self.cidr}")
        if special := next((p for p in _NOT_FOR_PODS if overlap(p, self.cidr)), None):
            raise ValueError(
                f"spec.cidr: {self.cidr} is not for pods: {special} is multicast, loopback, link-local or no host's"
            )
        for field, text in (("nodeSelector", self.node_selector), ("namespaceSelector", self.namespace_selector)):
            try:
                parse_selector(text)
            except ValueError as e:
                raise ValueError(f"spec.{field}: {e}") from e
        if self.network:
            self._check_network()
        elif self.node or self.gateway or self.ip_range or self.internal:
            field = "node" if self.node else "gateway" if self.gateway else "ipRange" if self.ip_range else "internal"
            raise ValueError(f"spec.{field}: belongs to a pool with `network`; this one serves the cluster")

    def _check_network(self) -> None:
        cidr, lengths = self.cidr, NETWORK_LENGTHS[self.cidr.version]
        check_network_name(self.network, "spec.network")
        if not self.node:
            raise ValueError(f"spec.node: network {self.network} lives on one node; name it (netloom get nodes)")
        check_object_name(self.node, "spec.node")
        if self.encapsulation is not Encapsulation.NONE:
            raise ValueError(
                f"spec.encapsulation: network {self.network} lives on one node, there is nowhere to carry its packets"
            )
        if cidr.prefixlen not in lengths:
            raise ValueError(f"spec.cidr: {cidr} is no network's; IPv{cidr.version} takes /{lengths[0]} to /{lengths[-1]}")
        if self.internal and self.nat_outgoing:
            raise ValueError("spec.natOutgoing: nothing leaves an internal network")
        if self.gateway is None:
            msgspec.structs.force_setattr(self, "gateway", cidr.network_address + 1)
        if self.gateway not in cidr:
            raise ValueError(f"spec.gateway: {self.gateway} is outside {cidr}")
        if self.gateway in (cidr.network_address, *((cidr.broadcast_address,) if cidr.version == 4 else ())):
            raise ValueError(f"spec.gateway: {self.gateway} is the network's own or its broadcast address, no host's")
        if self.ip_range is not None:
            if not contains(cidr, self.ip_range):
                raise ValueError(f"spec.ipRange: {self.ip_range} is outside {cidr}")
            if self.ip_range.num_addresses == sum(address in self.ip_range for address in self.kept):
                raise ValueError(f"spec.ipRange: {self.ip_range} has no address for a pod")

    @property
    def kept(self) -> tuple[Address, ...]:
        """Of a network: what no pod gets."""
        last = (self.cidr.broadcast_address,) if self.cidr.version == 4 else ()
        return (self.cidr.network_address, *((self.gateway,) if self.gateway else ()), *last)


class IPPool(Resource, frozen=True, kw_only=True, tag="IPPool"):
    PLURAL = "ippools"
    spec: IPPoolSpec


class Claim(Spec, frozen=True, kw_only=True):
    """`cidr` belongs to the node with this name and incarnation."""

    cidr: Prefix
    node: str
    node_id: str


class IPBlockSpec(Spec, frozen=True, kw_only=True):
    """All claims inside one aligned slot of a pool.  One record, hence one compare-and-swap: overlapping claims cannot both succeed.

    `disputed`: what nodes had claimed before the datastore lost it, and have pods in.  Whoever claims it by now gives out no more of it.
    """

    cidr: Prefix
    claims: tuple[Claim, ...] = ()
    disputed: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        for i, claim in enumerate(self.disputed):
            if not contains(self.cidr, claim.cidr):
                raise ValueError(f"spec.disputed[{i}].cidr: {claim.cidr} is outside the block {self.cidr}")
        for i, claim in enumerate(self.claims):
            if not contains(self.cidr, claim.cidr):
                raise ValueError(f"spec.claims[{i}].cidr: {claim.cidr} is outside the block {self.cidr}")
            for other in self.claims[:i]:
                if overlap(claim.cidr, other.cidr):
                    raise ValueError(f"spec.claims[{i}].cidr: {claim.cidr} overlaps {other.cidr} of {other.node}")


class IPBlock(Resource, frozen=True, kw_only=True, tag="IPBlock"):
    PLURAL = "ipblocks"
    spec: IPBlockSpec


def block_name(slot: Prefix) -> str:
    """Name of the slot's record: `10-244-0-64-26`, and for IPv6 all eight groups, so that a name never starts with `-`.  A record
    under any other name is nobody's: two would speak of one slot."""
    address = slot.network_address
    text = str(address).replace(".", "-") if address.version == 4 else address.packed.hex("-", 2)
    return f"{text}-{slot.prefixlen}"


class IPBlockRequestSpec(Spec, frozen=True, kw_only=True):
    """The node of this incarnation finds no free block in `pools`; any one of them would do.  With each stands how many addresses of
    it the node holds: whoever sees it hold more knows that the request has been answered, by whomever."""

    node_id: str
    pools: dict[str, int]


class IPBlockRequest(Resource, frozen=True, kw_only=True, tag="IPBlockRequest"):
    """A node asks the others for a part of a block.  It has the node's name, and only that node writes it."""

    PLURAL = "ipblockrequests"
    spec: IPBlockRequestSpec


class IPReservationSpec(Spec, frozen=True, kw_only=True):
    reserved_cidrs: tuple[Prefix, ...] = msgspec.field(default=(), name="reservedCIDRs")


class IPReservation(Resource, frozen=True, kw_only=True, tag="IPReservation"):
    """Addresses that are never given out unless asked for by name."""

    PLURAL = "ipreservations"
    spec: IPReservationSpec


class FelixConfigurationSpec(Spec, frozen=True, kw_only=True):
    """What all nodes have to agree on; what is 0 is as each agent's own settings have it.  `mtu`: of pod interfaces, in bytes.
    `vxlan_vni` 1 and `vxlan_port` 8472 speak with Flannel; `udp_port` is 8285 there."""

    vxlan_vni: int = msgspec.field(default=0, name="vxlanVNI")
    vxlan_port: int = 0
    udp_port: int = 0
    mtu: int = 0

    def __post_init__(self) -> None:
        if self.vxlan_vni:
            check_vni(self.vxlan_vni, "spec.vxlanVNI")
        for field, port in (("vxlanPort", self.vxlan_port), ("udpPort", self.udp_port)):
            if port:
                check_port(port, f"spec.{field}")
        if self.vxlan_port and self.vxlan_port == self.udp_port:
            raise ValueError(f"spec.udpPort: {self.udp_port} is VXLAN's port already")
        check_mtu(self.mtu, "spec.mtu")


class FelixConfiguration(Resource, frozen=True, kw_only=True, tag="FelixConfiguration"):
    """How all nodes' agents carry packets.  There is one, `default`."""

    NAME: ClassVar[str] = "default"
    PLURAL = "felixconfigurations"
    spec: FelixConfigurationSpec = FelixConfigurationSpec()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metadata.name != self.NAME:
            raise ValueError(f"metadata.name: {self.metadata.name} configures nobody; the one of the cluster is `{self.NAME}`")


class DatastoreCopySpec(Spec, frozen=True, kw_only=True):
    """`source`: the identity of the datastore that this one is to be a copy of."""

    source: str


class DatastoreCopy(Resource, frozen=True, kw_only=True, tag="DatastoreCopy"):
    """While it is there, its datastore is a copy that is not whole (netloom.datastore.copying)."""

    NAME: ClassVar[str] = "unfinished"
    PLURAL = "datastorecopies"
    spec: DatastoreCopySpec


class EndpointBandwidth(Spec, frozen=True, kw_only=True):
    """As it was asked for: bits per second, and bits at once; 0 is no limit."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


class EndpointSpec(Spec, frozen=True, kw_only=True):
    """One interface of one sandbox.  `netns` is the identity of its namespace, `device:inode` of nsfs, never a path or PID."""

    node: str
    network: str
    container_id: str = msgspec.field(name="containerID")
    interface: str
    host_interface: str
    pod: str = ""
    addresses: tuple[Address, ...] = ()
    mac: Mac
    netns: str = ""
    ports: tuple[PublishedPort, ...] = ()
    bandwidth: EndpointBandwidth | None = None

    def __post_init__(self) -> None:
        check_interface_name(self.interface)
        check_interface_name(self.host_interface)
        check_mac(self.mac, "spec.mac")


class Endpoint(Resource, frozen=True, kw_only=True, tag="Endpoint"):
    """`metadata.name` is the host interface's name, which is unique per attachment; labels are the pod's."""

    NAMESPACED = True
    PLURAL = "endpoints"
    spec: EndpointSpec


_OfBGP = BGPConfiguration | BGPPeer | BGPFilter | Secret | Service
AnyResource = (
    Node
    | Namespace
    | IPPool
    | IPBlock
    | IPBlockRequest
    | IPReservation
    | FelixConfiguration
    | Endpoint
    | _OfBGP
    | DatastoreCopy
)
_KINDS = (Node, Namespace, IPPool, IPBlock, IPBlockRequest, IPReservation, FelixConfiguration, Endpoint, DatastoreCopy)
_KINDS_OF_BGP = (BGPConfiguration, BGPPeer, BGPFilter, Secret, Service)
KINDS: Mapping[str, type[Resource]] = {kind.__name__: kind for kind in (*_KINDS, *_KINDS_OF_BGP)}

_PARSERS: Mapping[object, Callable[[str], object]] = {
    Address: parse_address,
    Prefix: parse_prefix,
    Interface: parse_interface,
}
_NUMBERS: Mapping[object, Callable[[object], object]] = {AsNumber: parse_as_number, Duration: parse_duration}


def dec_hook(kind: object, value: object) -> object:
    """For msgspec: fields of types that it does not know."""
    if kind in _NUMBERS:
        return _NUMBERS[kind](value)
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {shown(value)}")
    return _PARSERS[kind](value)


_decoder: msgspec.json.Decoder[AnyResource] = msgspec.json.Decoder(AnyResource, dec_hook=dec_hook)
_encoder = msgspec.json.Encoder(enc_hook=str)


def decode(data: bytes) -> AnyResource:
    """JSON → resource.  Raises msgspec.ValidationError (with the field's path) or msgspec.DecodeError."""
    return _decoder.decode(data)


def encode(resource: Resource) -> bytes:
    """Resource → JSON; `decode(encode(r)) == r`."""
    return _encoder.encode(resource)


def convert(value: object) -> AnyResource:
    """Plain dicts and lists (from YAML) → resource, as strict as `decode`."""
    resource: AnyResource = msgspec.convert(value, AnyResource, dec_hook=dec_hook)
    return resource


def builtins(resource: Resource) -> Any:  # Any: JSON-like values for printing
    """What a Secret holds is not shown."""
    value = msgspec.to_builtins(resource, enc_hook=str)
    return {**value, "data": dict.fromkeys(resource.data)} if isinstance(resource, Secret) else value
