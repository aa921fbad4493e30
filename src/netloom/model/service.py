"""Service: addresses that lead to pods wherever they are, as far as BGP has to know: which, and which nodes have an endpoint.

    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {clusterIPs: [10.96.0.10], externalIPs: [203.0.113.7], externalTrafficPolicy: Local, nodes: [node-1, node-3]}

The names are Kubernetes'.  Who keeps Services (a controller, or a person) writes here; nothing of this version translates their
addresses, which is kube-proxy's work.
"""

from __future__ import annotations

import enum

import msgspec

from netloom.model.addresses import Address
from netloom.model.objects import Resource, Spec
from netloom.model.validation import check_object_name

_ADDRESSES = 64  # of each kind


class TrafficPolicy(enum.Enum):
    """LOCAL: a node that gets a packet for the Service passes it to its own endpoints only."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class ServiceSpec(Spec, frozen=True, kw_only=True):
    """`nodes`: those that have an endpoint that is ready."""

    cluster_ips: tuple[Address, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[Address, ...] = msgspec.field(default=(), name="externalIPs")
    load_balancer_ips: tuple[Address, ...] = msgspec.field(default=(), name="loadBalancerIPs")
    external_traffic_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, addresses in (
            ("clusterIPs", self.cluster_ips),
            ("externalIPs", self.external_ips),
            ("loadBalancerIPs", self.load_balancer_ips),
        ):
            if len(addresses) > _ADDRESSES:
                raise ValueError(f"spec.{field}: {len(addresses)} are too many; {_ADDRESSES} at most")
            for i, address in enumerate(addresses):
                if address.is_multicast or address.is_unspecified or address.is_loopback:
                    raise ValueError(f"spec.{field}[{i}]: {address} is no service's address")
        for i, node in enumerate(self.nodes):
            check_object_name(node, f"spec.nodes[{i}]")


class Service(Resource, frozen=True, kw_only=True, tag="Service"):
    NAMESPACED = True
    PLURAL = "services"
    spec: ServiceSpec = ServiceSpec()
