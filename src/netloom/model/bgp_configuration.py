"""BGPConfiguration: what holds for the whole cluster, and what one node has of its own: Calico's fields by Calico's names, and what
Calico lacks (`nodeMeshBFD`, `nodeMeshHoldTime`).

The cluster's is `default`; `node.NAME` is that node's.
"""

from __future__ import annotations

import enum
from typing import ClassVar

import msgspec

from netloom.model.addresses import Prefix
from netloom.model.bgp_session import BFD_OR_RESTART, MAX_HOLD, MAX_RESTART, MIN_HOLD, BfdSpec, BGPPassword
from netloom.model.bgp_values import AsNumber, Duration, check_seconds, parse_community
from netloom.model.forms import check_port
from netloom.model.objects import Resource, Spec
from netloom.model.validation import check_interface_pattern, check_object_name, within

DEFAULT_AS = 64512
"""Calico's, the first private one of 16 bits (RFC 6996)."""
BGP_PORT = 179
_NODE_PREFIX = "node."


class BindMode(enum.Enum):
    """What BIRD listens on: every address, or the node's own."""

    NONE = "None"
    NODE_IP = "NodeIP"


class NamedCommunity(Spec, frozen=True, kw_only=True):
    name: str
    value: str

    def __post_init__(self) -> None:
        check_object_name(self.name, "name")
        within("value", parse_community, self.value)


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


class BGPConfigurationSpec(Spec, frozen=True, kw_only=True):
    """What is said of the mesh is for both ends of its sessions."""

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
            path = f"spec.prefixAdvertisements[{i}].communities"
            for text in advertisement.communities:
                if ":" in text:
                    within(path, parse_community, text)
                else:
                    check_object_name(text, path)
        for pattern in self.ignored_interfaces:
            check_interface_pattern(pattern, "spec.ignoredInterfaces")
        check_seconds(self.node_mesh_max_restart_time, 0, MAX_RESTART, "spec.nodeMeshMaxRestartTime")
        check_seconds(self.node_mesh_hold_time, MIN_HOLD, MAX_HOLD, "spec.nodeMeshHoldTime")
        if self.node_mesh_bfd is not None and self.node_mesh_max_restart_time is not None:
            raise ValueError(f"spec.nodeMeshBFD: {BFD_OR_RESTART}, so it does not go with nodeMeshMaxRestartTime")
        if not self.node_to_node_mesh_enabled:
            for field in ("nodeMeshPassword", "nodeMeshMaxRestartTime", "nodeMeshHoldTime", "nodeMeshBFD"):
                if getattr(self, _OF_THE_CLUSTER[field]) is not None:
                    raise ValueError(f"spec.{field}: there is no mesh, nodeToNodeMeshEnabled is false")


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
