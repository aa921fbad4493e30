"""What people say of a node in BGP: Node, `spec.bgp`, by Calico's names."""

from __future__ import annotations

import ipaddress

import msgspec

from netloom.model.addresses import Interface
from netloom.model.bgp_values import AsNumber
from netloom.model.objects import Spec
from netloom.model.validation import within


class NodeBGP(Spec, frozen=True, kw_only=True):
    """`ipv4_address` and `ipv6_address` choose nothing: where one differs from what the node has, it is told (nodeAddresses in its
    agent's settings chooses)."""

    as_number: AsNumber | None = None
    route_reflector_cluster_id: str = msgspec.field(default="", name="routeReflectorClusterID")
    ipv4_address: str = msgspec.field(default="", name="ipv4Address")
    ipv6_address: str = msgspec.field(default="", name="ipv6Address")

    def __post_init__(self) -> None:
        if self.route_reflector_cluster_id:
            cluster = within("spec.bgp.routeReflectorClusterID", ipaddress.IPv4Address, self.route_reflector_cluster_id)
            if int(cluster) == 0:
                raise ValueError("spec.bgp.routeReflectorClusterID: 0.0.0.0 is nobody's")
        for version, text in ((4, self.ipv4_address), (6, self.ipv6_address)):
            if text and within(f"spec.bgp.ipv{version}Address", ipaddress.ip_interface, text).version != version:
                raise ValueError(f"spec.bgp.ipv{version}Address: {text} is no IPv{version} address")

    @property
    def cluster_id(self) -> ipaddress.IPv4Address | None:
        return ipaddress.IPv4Address(self.route_reflector_cluster_id) if self.route_reflector_cluster_id else None

    @property
    def addresses(self) -> tuple[Interface, ...]:
        return tuple(ipaddress.ip_interface(text) for text in (self.ipv4_address, self.ipv6_address) if text)
