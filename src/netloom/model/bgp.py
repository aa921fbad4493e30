"""BGPConfiguration, BGPPeer, and what a Node says of itself in BGP: Calico's fields by Calico's names, and what Calico lacks.

    kind: BGPConfiguration        the cluster's is `default`; `node.NAME` says what one node has of its own
    kind: BGPPeer                 who peers (all nodes, `node`, `nodeSelector`) with whom (`peerIP`, or nodes by `peerSelector`)
    kind: Node, spec.bgp          AS number of the node, and whether it reflects routes

Beyond Calico: `bfd`, `holdTime`, `prefixLimit`, `gracefulRestart`, `families`.  Each struct checks its own values; whether filters,
secrets and nodes that it names are there is asked by model.admission.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import msgspec

from netloom.model.addresses import Address, Interface, Prefix
from netloom.model.bgp_values import (
    AsNumber,
    Duration,
    check_peer_address,
    check_seconds,
    milliseconds,
    parse_community,
    parse_peer,
)
from netloom.model.forms import check_port
from netloom.model.objects import Resource, Spec
from netloom.model.routing import Bfd, NextHop
from netloom.model.selectors import parse_selector
from netloom.model.validation import check_interface_pattern, check_object_name, check_secret_key

DEFAULT_AS = 64512
"""Calico's, the first private one of 16 bits (RFC 6996)."""
BGP_PORT = 179
_NODE_PREFIX = "node."
_MAX_RESTART = 4095  # seconds: 12 bits (RFC 4724, section 3)
_MAX_HOLD = 65535  # seconds: 16 bits (RFC 4271, section 4.2)
_MIN_HOLD = 3  # seconds (RFC 4271, section 4.2)
_USUAL_HOLD = 240  # seconds: BIRD's
_FILTERS = 32


_Parsed = TypeVar("_Parsed")
_Text = TypeVar("_Text")


def _within(path: str, parse: Callable[[_Text], _Parsed], value: _Text) -> _Parsed:
    """Says which field is wrong."""
    try:
        return parse(value)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


class SecretKeyRef(Spec, frozen=True, kw_only=True):
    """A value of a Secret, or of a file `{stateDir}/secrets/NAME/KEY` on the node.  `optional`: the Secret need not be there."""

    name: str
    key: str
    optional: bool = False

    def __post_init__(self) -> None:
        check_object_name(self.name, "name")
        check_secret_key(self.key, "key")


class BGPPassword(Spec, frozen=True, kw_only=True):
    secret_key_ref: SecretKeyRef


class BindMode(enum.Enum):
    """What BIRD listens on: every address, or the node's own."""

    NONE = "None"
    NODE_IP = "NodeIP"


class NamedCommunity(Spec, frozen=True, kw_only=True):
    name: str
    value: str

    def __post_init__(self) -> None:
        check_object_name(self.name, "name")
        _within("value", parse_community, self.value)


class PrefixAdvertisement(Spec, frozen=True, kw_only=True):
    """What is announced inside `cidr` carries `communities`: names of the configuration's, or values."""

    cidr: Prefix
    communities: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.communities:
            raise ValueError("communities: names none")


class ServiceBlock(Spec, frozen=True, kw_only=True):
    cidr: Prefix


class Aggregation(enum.Enum):
    """Of service addresses: the whole range by every node, or each service's by itself."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class BfdSpec(Spec, frozen=True, kw_only=True):
    """Bidirectional Forwarding Detection (RFC 5880)."""

    interval: Duration = "300ms"
    multiplier: int = 3

    def __post_init__(self) -> None:
        if not 10 <= milliseconds(self.interval) <= 60_000:
            raise ValueError(f"interval: {self.interval} is out of range; 10ms to 1m")
        if not 2 <= self.multiplier <= 255:
            raise ValueError(f"multiplier: {self.multiplier} is out of range; 2 to 255")

    @property
    def value(self) -> Bfd:
        return Bfd(milliseconds(self.interval), self.multiplier)


class BGPConfigurationSpec(Spec, frozen=True, kw_only=True):
    """`prefix_limit`: of each session with a node; 0: as many as there are."""

    node_to_node_mesh_enabled: bool = True
    as_number: AsNumber | None = None
    listen_port: int = 0
    bind_mode: BindMode | None = None
    communities: tuple[NamedCommunity, ...] = ()
    prefix_advertisements: tuple[PrefixAdvertisement, ...] = ()
    service_cluster_ips: tuple[ServiceBlock, ...] = msgspec.field(default=(), name="serviceClusterIPs")
    service_external_ips: tuple[ServiceBlock, ...] = msgspec.field(default=(), name="serviceExternalIPs")
    service_load_balancer_ips: tuple[ServiceBlock, ...] = msgspec.field(default=(), name="serviceLoadBalancerIPs")
    service_load_balancer_aggregation: Aggregation = Aggregation.ENABLED
    node_mesh_password: BGPPassword | None = None
    node_mesh_max_restart_time: Duration | None = None
    node_mesh_hold_time: Duration | None = None
    node_mesh_bfd: BfdSpec | None = msgspec.field(default=None, name="nodeMeshBFD")
    ignored_interfaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.listen_port:
            check_port(self.listen_port, "spec.listenPort")
        names = [community.name for community in self.communities]
        if doubled := next((name for i, name in enumerate(names) if name in names[:i]), None):
            raise ValueError(f"spec.communities: {doubled} is here twice")
        for i, advertisement in enumerate(self.prefix_advertisements):
            for text in advertisement.communities:
                _within(
                    f"spec.prefixAdvertisements[{i}].communities", parse_community if ":" in text else check_object_name, text
                )
        for pattern in self.ignored_interfaces:
            check_interface_pattern(pattern, "spec.ignoredInterfaces")
        check_seconds(self.node_mesh_max_restart_time, 0, _MAX_RESTART, "spec.nodeMeshMaxRestartTime")
        check_seconds(self.node_mesh_hold_time, _MIN_HOLD, _MAX_HOLD, "spec.nodeMeshHoldTime")
        if self.node_mesh_bfd is not None and self.node_mesh_max_restart_time is not None:
            raise ValueError(f"spec.nodeMeshBFD: {_CONFLICT}, so it does not go with nodeMeshMaxRestartTime")
        if not self.node_to_node_mesh_enabled:
            for field in ("nodeMeshPassword", "nodeMeshMaxRestartTime", "nodeMeshHoldTime", "nodeMeshBFD"):
                if getattr(self, _OF_THE_CLUSTER[field]) is not None:
                    raise ValueError(f"spec.{field}: there is no mesh, nodeToNodeMeshEnabled is false")


_CONFLICT = "a node whose BIRD restarts is gone for BFD, and there still for graceful restart"
_OF_THE_CLUSTER = {
    "nodeToNodeMeshEnabled": "node_to_node_mesh_enabled",
    "asNumber": "as_number",
    "serviceClusterIPs": "service_cluster_ips",
    "serviceExternalIPs": "service_external_ips",
    "serviceLoadBalancerIPs": "service_load_balancer_ips",
    "serviceLoadBalancerAggregation": "service_load_balancer_aggregation",
    "nodeMeshPassword": "node_mesh_password",
    "nodeMeshMaxRestartTime": "node_mesh_max_restart_time",
    "nodeMeshHoldTime": "node_mesh_hold_time",
    "nodeMeshBFD": "node_mesh_bfd",
}
"""Fields that only the cluster's configuration has, since both ends of a session, or all nodes, go by them."""
_NOTHING_SAID = BGPConfigurationSpec()


class BGPConfiguration(Resource, frozen=True, kw_only=True, tag="BGPConfiguration"):
    """`default` is the cluster's; `node.NAME` says what that node has instead: port, addresses to listen on, communities, prefixes."""

    NAME: ClassVar[str] = "default"
    PLURAL = "bgpconfigurations"
    spec: BGPConfigurationSpec = BGPConfigurationSpec()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == self.NAME:
            return
        if not self.node:
            raise ValueError(
                f"metadata.name: {self.name} configures nobody; the cluster's is `{self.NAME}`, a node's own `{_NODE_PREFIX}NAME`"
            )
        for field, python in _OF_THE_CLUSTER.items():
            if getattr(self.spec, python) != getattr(_NOTHING_SAID, python):
                hint = "; a node's own is in its Node, spec.bgp.asNumber" if field == "asNumber" else ""
                raise ValueError(f"spec.{field}: is the whole cluster's, so it belongs into `{self.NAME}`{hint}")

    @property
    def node(self) -> str:
        """Whose it is; empty for the cluster's."""
        return self.name.removeprefix(_NODE_PREFIX) if self.name.startswith(_NODE_PREFIX) else ""

    @classmethod
    def name_of(cls, node: str) -> str:
        return _NODE_PREFIX + node


class SourceAddress(enum.Enum):
    """What a session is made from: the node's own address, or whichever the kernel chooses."""

    USE_NODE_IP = "UseNodeIP"
    NONE = "None"


class ReversePeering(enum.Enum):
    """Whether a node that `peerSelector` chooses peers back without being told."""

    AUTO = "Auto"
    MANUAL = "Manual"


class Family(enum.Enum):
    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def version(self) -> int:
        return 4 if self is Family.IPV4 else 6


class BGPPeerSpec(Spec, frozen=True, kw_only=True):
    """`families`: whose routes the session carries; unless said, those of the peer's address."""

    node: str = ""
    node_selector: str = ""
    peer_ip: str = msgspec.field(default="", name="peerIP")
    peer_selector: str = ""
    as_number: AsNumber | None = None
    local_as_number: AsNumber | None = msgspec.field(default=None, name="localASNumber")
    next_hop_mode: NextHop = NextHop.AUTO
    password: BGPPassword | None = None
    source_address: SourceAddress = SourceAddress.USE_NODE_IP
    max_restart_time: Duration | None = None
    keepalive_time: Duration | None = None
    hold_time: Duration | None = None
    num_allowed_local_as_numbers: int = msgspec.field(default=0, name="numAllowedLocalASNumbers")
    ttl_security: int = 0
    reachable_by: Address | None = None
    filters: tuple[str, ...] = ()
    reverse_peering: ReversePeering = ReversePeering.AUTO
    bfd: BfdSpec | None = None
    graceful_restart: bool | None = None
    prefix_limit: int | None = None
    families: tuple[Family, ...] = ()

    def __post_init__(self) -> None:
        self._check_who()
        self._check_times()
        for field, number, most in (
            ("numAllowedLocalASNumbers", self.num_allowed_local_as_numbers, 255),
            ("ttlSecurity", self.ttl_security, 254),
            ("prefixLimit", self.prefix_limit or 0, (1 << 32) - 1),
        ):
            if not 0 <= number <= most:
                raise ValueError(f"spec.{field}: {number} is out of range; 0 to {most}")
        if len(self.filters) > _FILTERS:
            raise ValueError(f"spec.filters: {len(self.filters)} are too many; {_FILTERS} at most")
        for i, name in enumerate(self.filters):
            check_object_name(name, f"spec.filters[{i}]")
            if name in self.filters[:i]:
                raise ValueError(f"spec.filters[{i}]: {name} is here twice")
        if len(set(self.families)) != len(self.families):
            raise ValueError("spec.families: each once")

    def _check_who(self) -> None:
        if self.node:
            check_object_name(self.node, "spec.node")
            if self.node_selector:
                raise ValueError("spec.nodeSelector: one of node and nodeSelector; neither means all nodes")
        for field, text in (("nodeSelector", self.node_selector), ("peerSelector", self.peer_selector)):
            _within(f"spec.{field}", parse_selector, text)
        if self.peer_selector:
            for field, value in (("peerIP", self.peer_ip), ("asNumber", self.as_number), ("reachableBy", self.reachable_by)):
                if value:
                    raise ValueError(f"spec.{field}: peerSelector chooses nodes, which say that themselves")
            return
        if not self.peer_ip:
            raise ValueError("spec.peerIP: is missing; one of peerIP and peerSelector says who the peer is")
        address, _ = _within("spec.peerIP", parse_peer, self.peer_ip)
        if self.as_number is None:
            raise ValueError("spec.asNumber: is missing; which AS is the peer in?")
        if self.reachable_by is not None:
            _within("spec.reachableBy", check_peer_address, self.reachable_by)
            if self.reachable_by.version != address.version or self.reachable_by == address:
                raise ValueError(f"spec.reachableBy: {self.reachable_by} is no gateway to {address}")
        if self.reverse_peering is not ReversePeering.AUTO:
            raise ValueError("spec.reversePeering: belongs to peerSelector; nobody tells a peer outside what to do")

    def _check_times(self) -> None:
        hold = check_seconds(self.hold_time, _MIN_HOLD, _MAX_HOLD, "spec.holdTime")
        keepalive = check_seconds(self.keepalive_time, 1, _MAX_HOLD // 3, "spec.keepaliveTime")
        check_seconds(self.max_restart_time, 0, _MAX_RESTART, "spec.maxRestartTime")
        if keepalive >= (hold or _USUAL_HOLD):
            said = self.hold_time if hold else "which is 4m unless it is said"
            raise ValueError(f"spec.keepaliveTime: {self.keepalive_time} is no less than holdTime, {said}")
        if self.bfd is not None and (self.graceful_restart or self.max_restart_time is not None):
            field = "gracefulRestart" if self.graceful_restart else "maxRestartTime"
            raise ValueError(f"spec.bfd: {_CONFLICT}, so it does not go with {field}")
        if self.graceful_restart is False and self.max_restart_time is not None:
            raise ValueError("spec.maxRestartTime: says how long a graceful restart takes, and gracefulRestart is false")

    @property
    def peer(self) -> tuple[Address, int] | None:
        """Address and port of the peer, 0 where none is said; None: nodes, by `peer_selector`."""
        return parse_peer(self.peer_ip) if self.peer_ip else None


class BGPPeer(Resource, frozen=True, kw_only=True, tag="BGPPeer"):
    PLURAL = "bgppeers"
    spec: BGPPeerSpec

    def is_for(self, node: str, labels: Mapping[str, str]) -> bool:
        """Whether that node has this peering."""
        return node == self.spec.node if self.spec.node else parse_selector(self.spec.node_selector)(labels)


class NodeBGP(Spec, frozen=True, kw_only=True):
    """What people say of a node.  `ipv4_address` and `ipv6_address` choose nothing: where one differs from what the node has, it is
    told (nodeAddresses in its agent's settings chooses)."""

    as_number: AsNumber | None = None
    route_reflector_cluster_id: str = msgspec.field(default="", name="routeReflectorClusterID")
    ipv4_address: str = msgspec.field(default="", name="ipv4Address")
    ipv6_address: str = msgspec.field(default="", name="ipv6Address")

    def __post_init__(self) -> None:
        if self.route_reflector_cluster_id:
            cluster = _within("spec.bgp.routeReflectorClusterID", ipaddress.IPv4Address, self.route_reflector_cluster_id)
            if int(cluster) == 0:
                raise ValueError("spec.bgp.routeReflectorClusterID: 0.0.0.0 is nobody's")
        for version, text in ((4, self.ipv4_address), (6, self.ipv6_address)):
            if text and _within(f"spec.bgp.ipv{version}Address", ipaddress.ip_interface, text).version != version:
                raise ValueError(f"spec.bgp.ipv{version}Address: {text} is no IPv{version} address")

    @property
    def cluster_id(self) -> ipaddress.IPv4Address | None:
        return ipaddress.IPv4Address(self.route_reflector_cluster_id) if self.route_reflector_cluster_id else None

    @property
    def addresses(self) -> tuple[Interface, ...]:
        return tuple(ipaddress.ip_interface(text) for text in (self.ipv4_address, self.ipv6_address) if text)
