"""Snapshot: the cluster as one immutable value, as of one revision of the datastore."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.bgp_filter import BGPFilter
from netloom.model.bgp_peer import BGPPeer
from netloom.model.edited import Edited
from netloom.model.resources import (
    AnyResource,
    FelixConfiguration,
    FelixConfigurationSpec,
    IPBlock,
    IPBlockRequest,
    IPPool,
    IPReservation,
    Namespace,
    Node,
)
from netloom.model.secret import Secret
from netloom.model.service import Service

_TABLES = {
    "Node": "nodes",
    "IPPool": "pools",
    "IPBlock": "blocks",
    "IPBlockRequest": "requests",
    "IPReservation": "reservations",
    "Namespace": "namespaces",
    "FelixConfiguration": "configurations",
    "BGPConfiguration": "bgp_configurations",
    "BGPPeer": "bgp_peers",
    "BGPFilter": "bgp_filters",
    "Secret": "secrets",
    "Service": "services",
}
_DEFAULTS = FelixConfigurationSpec()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`complete`: the datastore said "this is all" in this life of the agent.  Without it nothing may be removed.

    Endpoints are not held: a node routes to blocks, and its own pods are in its journal.
    """

    revision: int = 0
    complete: bool = False
    nodes: Mapping[str, Node] = field(default_factory=dict)
    pools: Mapping[str, IPPool] = field(default_factory=dict)
    blocks: Mapping[str, IPBlock] = field(default_factory=dict)
    requests: Mapping[str, IPBlockRequest] = field(default_factory=dict)
    reservations: Mapping[str, IPReservation] = field(default_factory=dict)
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    configurations: Mapping[str, FelixConfiguration] = field(default_factory=dict)
    bgp_configurations: Mapping[str, BGPConfiguration] = field(default_factory=dict)
    bgp_peers: Mapping[str, BGPPeer] = field(default_factory=dict)
    bgp_filters: Mapping[str, BGPFilter] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)

    @property
    def configuration(self) -> FelixConfigurationSpec:
        found = self.configurations.get(FelixConfiguration.NAME)
        return found.spec if found else _DEFAULTS

    def resources(self) -> Iterator[AnyResource]:
        for name in _TABLES.values():
            yield from getattr(self, name).values()

    def get(self, kind: str, key: str) -> AnyResource | None:
        found: AnyResource | None = getattr(self, _TABLES[kind]).get(key)
        return found

    def updated(self, revision: int, changes: Iterable[tuple[str, str, AnyResource | None]]) -> Snapshot:
        """With each (kind, key, resource) put in place; None takes it away.  Kinds that are not held are passed over."""
        touched: dict[str, dict[str, Any]] = {}  # Any: each table holds its own kind
        for kind, key, resource in changes:
            if (name := _TABLES.get(kind)) is not None:
                touched.setdefault(name, {})[key] = resource
        tables: dict[str, Any] = {name: _edited(getattr(self, name), each) for name, each in touched.items()}
        return replace(self, revision=revision, **tables)

    @classmethod
    def of(cls, revision: int, resources: Iterable[AnyResource], *, complete: bool = True) -> Snapshot:
        return cls(complete=complete).updated(revision, ((r.kind, r.key, r) for r in resources))


def _edited(table: Mapping[str, Any], changes: Mapping[str, Any]) -> Edited[str, Any]:  # Any: as above
    gone = [key for key, resource in changes.items() if resource is None]
    put = {key: resource for key, resource in changes.items() if resource is not None} if gone else changes
    return Edited.of(table, put, gone)
