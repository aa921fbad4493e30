"""Speakers: what BGP has to know of each node, this one included.

AS number    Node `spec.bgp.asNumber`, else BGPConfiguration `default`, else 64512
port         BGPConfiguration `node.NAME`, else `default`, else 179
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

import msgspec

from netloom.model.addresses import Address, Interface
from netloom.model.bgp_configuration import BGP_PORT, DEFAULT_AS, BGPConfiguration, BGPConfigurationSpec
from netloom.model.bgp_peer import BGPPeerSpec
from netloom.model.host import Host
from netloom.model.resources import Node
from netloom.model.snapshot import Snapshot

_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Speaker:
    """A node.  `cluster_id`: it reflects routes, in this cluster of reflectors."""

    name: str
    as_number: int
    port: int
    cluster_id: IPv4Address | None
    addresses: tuple[Interface, ...]
    labels: Mapping[str, str]
    draining: bool = False

    def address(self, version: int) -> Interface | None:
        return next((a for a in self.addresses if a.version == version), None)

    def is_near(self, other: Speaker, version: int) -> bool:
        """Whether both say that the other one's address is on their link: so both come to the same answer."""
        mine, theirs = self.address(version), other.address(version)
        return mine is not None and theirs is not None and theirs.ip in mine.network and mine.ip in theirs.network


class Speakers:
    """Of one snapshot.  `own`: this node, with the addresses that it has now; `settings`: the configuration that holds here;
    `cluster`: the one that holds for all."""

    def __init__(self, snapshot: Snapshot, host: Host) -> None:
        self._configurations = snapshot.bgp_configurations
        self._nodes = snapshot.nodes
        found = snapshot.bgp_configurations.get(BGPConfiguration.NAME)
        self.cluster = found.spec if found else BGPConfigurationSpec()
        self.mesh = _as_peers(self.cluster)
        """What the cluster says of sessions of the mesh."""
        self._as_number = self.cluster.as_number or DEFAULT_AS
        self._port = self.cluster.listen_port or BGP_PORT
        self._ports = {
            configuration.node: configuration.spec.listen_port
            for configuration in snapshot.bgp_configurations.values()
            if configuration.node and configuration.spec.listen_port
        }
        self.settings = self._settings(host.node)
        node = snapshot.nodes.get(host.node)
        self.own = self._speaker(host.node, node, host.addresses)
        self._others = [self._nodes[name] for name in sorted(self._nodes) if name != host.node]
        self._known: dict[str, Speaker] = {}
        self._by_address: dict[Address, str] | None = None

    def get(self, name: str) -> Speaker:
        """Of a node that there is."""
        if name not in self._known:
            node = self._nodes[name]
            self._known[name] = self._speaker(name, node, node.spec.addresses)
        return self._known[name]

    def others(self) -> Iterator[Node]:
        """By name."""
        return iter(self._others)

    def with_address(self, address: Address) -> Speaker | None:
        """Another node that has it."""
        if self._by_address is None:
            self._by_address = {a.ip: node.name for node in reversed(self._others) for a in node.spec.addresses}
        name = self._by_address.get(address)
        return None if name is None else self.get(name)

    def _speaker(self, name: str, node: Node | None, addresses: tuple[Interface, ...]) -> Speaker:
        bgp = node.spec.bgp if node else None
        return Speaker(
            name=name,
            as_number=(bgp.as_number if bgp else None) or self._as_number,
            port=self._ports.get(name, self._port),
            cluster_id=bgp.cluster_id if bgp else None,
            addresses=addresses,
            labels=node.metadata.labels if node else _NOTHING,
            draining=bool(node and node.spec.draining),
        )

    def _settings(self, node: str) -> BGPConfigurationSpec:
        """The cluster's, with what the node's own one says instead.  Communities' names are of both."""
        found = self._configurations.get(BGPConfiguration.name_of(node))
        if found is None:
            return self.cluster
        spec = found.spec
        names = {community.name: community for community in (*self.cluster.communities, *spec.communities)}
        return msgspec.structs.replace(
            self.cluster,
            listen_port=spec.listen_port or self.cluster.listen_port,
            bind_mode=self.cluster.bind_mode if spec.bind_mode is None else spec.bind_mode,
            communities=tuple(names.values()),
            prefix_advertisements=spec.prefix_advertisements or self.cluster.prefix_advertisements,
            ignored_interfaces=spec.ignored_interfaces or self.cluster.ignored_interfaces,
        )


def _as_peers(cluster: BGPConfigurationSpec) -> BGPPeerSpec:
    return BGPPeerSpec(
        peer_selector="all()",
        password=cluster.node_mesh_password,
        max_restart_time=cluster.node_mesh_max_restart_time,
        hold_time=cluster.node_mesh_hold_time,
        bfd=cluster.node_mesh_bfd,
    )
