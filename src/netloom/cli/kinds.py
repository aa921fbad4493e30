"""What people may call each kind of thing, and the table that shows it.

A view turns one resource into rows: a pod's endpoint is one, a block is one for each claim in it.  The columns after `wide` are
shown with `-o wide`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from netloom.errors import ConfigError
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.bgp_filter import BGPFilter
from netloom.model.bgp_peer import BGPPeer
from netloom.model.resources import (
    AnyResource,
    Endpoint,
    FelixConfiguration,
    IPBlock,
    IPBlockRequest,
    IPPool,
    IPReservation,
    Namespace,
    Node,
)
from netloom.model.secret import Secret
from netloom.model.service import Service
from netloom.model.showing import shown

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class View:
    """`kind` is the datastore's; `title` its plural in a sentence.  `name` is what a person calls one object by."""

    kind: str
    singular: str
    title: str
    columns: Sequence[str]
    wide: Sequence[str]
    rows: Callable[[Any], Iterable[Row]]  # Any: each view takes its own kind
    namespaced: bool = False
    name: Callable[[Any], str] = lambda resource: str(resource.name)

    def headers(self, *, wide: bool) -> list[str]:
        return [*self.columns, *(self.wide if wide else ())]

    def lines(self, resource: AnyResource, *, wide: bool) -> list[Row]:
        width = len(self.headers(wide=wide))
        return [row[:width] for row in self.rows(resource)]


def pod_name(endpoint: Endpoint) -> str:
    """A runtime that knows no pods named none: then it is the sandbox."""
    return endpoint.spec.pod or endpoint.spec.container_id


def _node(node: Node) -> Iterable[Row]:
    spec = node.spec
    start = (node.name, spec.addresses, spec.tunnel_addresses, spec.mtu or None, spec.draining)
    number = spec.bgp.as_number if spec.bgp else None
    yield *start, number, spec.receives, spec.sends, spec.vtep_mac, spec.id, node.metadata.labels


def _pool(pool: IPPool) -> Iterable[Row]:
    spec = pool.spec
    start = (pool.name, spec.cidr, spec.block_size, spec.encapsulation, spec.nat_outgoing, spec.disabled)
    nodes, own = (spec.node, (spec.internal, spec.isolated)) if spec.network else (spec.node_selector, (None, None))
    yield *start, nodes, spec.namespace_selector, spec.network, spec.gateway, spec.ip_range, *own


def _block(block: IPBlock) -> Iterable[Row]:
    if not block.spec.claims:
        yield block.name, block.spec.cidr, None, None
    for claim in block.spec.claims:
        yield block.name, claim.cidr, claim.node, claim.node_id


def _request(request: IPBlockRequest) -> Iterable[Row]:
    yield request.name, [f"{pool} (has {held})" for pool, held in request.spec.pools.items()], request.spec.node_id


def _reservation(reservation: IPReservation) -> Iterable[Row]:
    yield reservation.name, reservation.spec.reserved_cidrs


def _configuration(configuration: FelixConfiguration) -> Iterable[Row]:
    spec = configuration.spec
    yield configuration.name, *(number or None for number in (spec.vxlan_vni, spec.vxlan_port, spec.udp_port, spec.mtu))


def _bgp_configuration(configuration: BGPConfiguration) -> Iterable[Row]:
    spec = configuration.spec
    mesh = None if configuration.node else spec.node_to_node_mesh_enabled
    start = (configuration.name, mesh, spec.as_number, spec.listen_port or None, spec.bind_mode)
    services = (*spec.service_cluster_ips, *spec.service_external_ips, *spec.service_load_balancer_ips)
    yield *start, [block.cidr for block in services], [f"{c.name}={c.value}" for c in spec.communities]


def _bgp_peer(peer: BGPPeer) -> Iterable[Row]:
    spec = peer.spec
    nodes = spec.node or spec.node_selector or "all()"
    start = (peer.name, spec.peer_ip or spec.peer_selector, nodes, spec.as_number)
    secret = spec.password.secret_key_ref if spec.password else None
    yield *start, spec.local_as_number, spec.filters, secret and f"{secret.name}/{secret.key}", spec.bfd is not None


def _bgp_filter(route_filter: BGPFilter) -> Iterable[Row]:
    spec = route_filter.spec
    yield route_filter.name, *map(len, (spec.import_v4, spec.export_v4, spec.import_v6, spec.export_v6))


def _secret(secret: Secret) -> Iterable[Row]:
    yield secret.name, secret.type, sorted(secret.data)


def _service(service: Service) -> Iterable[Row]:
    spec = service.spec
    start = (service.metadata.namespace, service.name, spec.cluster_ips, spec.external_ips, spec.load_balancer_ips)
    yield *start, spec.external_traffic_policy, spec.nodes


def _namespace(namespace: Namespace) -> Iterable[Row]:
    yield namespace.name, namespace.metadata.labels


def _pod(endpoint: Endpoint) -> Iterable[Row]:
    spec = endpoint.spec
    start = (endpoint.metadata.namespace, pod_name(endpoint), spec.addresses, spec.node, spec.interface)
    rates = (_rate(spec.bandwidth.ingress_rate), _rate(spec.bandwidth.egress_rate)) if spec.bandwidth else (None, None)
    yield *start, spec.ports, *rates, spec.host_interface, spec.mac, spec.network, spec.container_id, endpoint.metadata.labels


def _endpoint(endpoint: Endpoint) -> Iterable[Row]:
    spec = endpoint.spec
    start = (endpoint.metadata.namespace, endpoint.name, spec.pod, spec.addresses, spec.node)
    yield *start, spec.network, spec.interface, spec.mac, spec.container_id, spec.netns


def _rate(bits: int) -> str | None:
    """`10 Mbit/s`; None: there is no limit."""
    power = max(p for p in range(5) if p == 0 or bits >= 1000**p)
    return f"{bits / 1000**power:.4g} {('', 'k', 'M', 'G', 'T')[power]}bit/s" if bits else None


_NODE_COLUMNS = ("NAME", "ADDRESSES", "TUNNEL", "MTU", "DRAINED")
_NODE_WIDE = ("AS", "RECEIVES", "SENDS", "VTEP-MAC", "ID", "LABELS")
_POD_WIDE = ("INTERFACE", "PORTS", "INGRESS", "EGRESS", "HOST-INTERFACE", "MAC", "NETWORK", "SANDBOX", "LABELS")
_ENDPOINT_WIDE = ("NETWORK", "INTERFACE", "MAC", "SANDBOX", "NETNS")
_POOL_COLUMNS = ("NAME", "CIDR", "BLOCK-SIZE", "ENCAPSULATION", "NAT-OUTGOING", "DISABLED")
_POOL_WIDE = ("NODES", "NAMESPACES", "NETWORK", "GATEWAY", "RANGE", "INTERNAL", "ISOLATED")

VIEWS: tuple[View, ...] = (
    View("Node", "node", "nodes", _NODE_COLUMNS, _NODE_WIDE, _node),
    View(
        "Endpoint",
        "pod",
        "pods",
        ("NAMESPACE", "NAME", "ADDRESSES", "NODE"),
        _POD_WIDE,
        _pod,
        namespaced=True,
        name=pod_name,
    ),
    View("IPPool", "pool", "pools", _POOL_COLUMNS, _POOL_WIDE, _pool),
    View("IPBlock", "block", "blocks", ("NAME", "CIDR", "NODE"), ("NODE-ID",), _block),
    View("IPBlockRequest", "blockrequest", "blockrequests", ("NODE", "POOLS"), ("NODE-ID",), _request),
    View("Namespace", "namespace", "namespaces", ("NAME", "LABELS"), (), _namespace),
    View(
        "FelixConfiguration",
        "configuration",
        "configurations",
        ("NAME", "VXLAN-VNI", "VXLAN-PORT", "UDP-PORT", "MTU"),
        (),
        _configuration,
    ),
    View(
        "BGPConfiguration",
        "bgpconfiguration",
        "bgpconfigurations",
        ("NAME", "MESH", "AS", "PORT", "BIND"),
        ("SERVICES", "COMMUNITIES"),
        _bgp_configuration,
    ),
    View(
        "BGPPeer",
        "bgppeer",
        "bgppeers",
        ("NAME", "PEER", "NODES", "AS"),
        ("LOCAL-AS", "FILTERS", "PASSWORD", "BFD"),
        _bgp_peer,
    ),
    View("BGPFilter", "bgpfilter", "bgpfilters", ("NAME", "IMPORT-V4", "EXPORT-V4", "IMPORT-V6", "EXPORT-V6"), (), _bgp_filter),
    View("Secret", "secret", "secrets", ("NAME", "TYPE", "KEYS"), (), _secret),
    View(
        "Service",
        "service",
        "services",
        ("NAMESPACE", "NAME", "CLUSTER", "EXTERNAL", "LOAD-BALANCER"),
        ("TRAFFIC-POLICY", "NODES"),
        _service,
        namespaced=True,
    ),
    View("IPReservation", "reservation", "reservations", ("NAME", "RESERVED"), (), _reservation),
    View(
        "Endpoint",
        "endpoint",
        "endpoints",
        ("NAMESPACE", "NAME", "POD", "ADDRESSES", "NODE"),
        _ENDPOINT_WIDE,
        _endpoint,
        namespaced=True,
    ),
)

_SHORT: Mapping[str, str] = {
    "no": "nodes",
    "po": "pods",
    "ns": "namespaces",
    "ep": "endpoints",
    "felixconfig": "configurations",
    "bgpconfig": "bgpconfigurations",
    "svc": "services",
    "workloadendpoint": "endpoints",
}


def _spellings(view: View) -> Iterable[str]:
    yield from (view.title, view.singular)
    if view.singular != "pod":  # a pod is called by its endpoint's pod name; the kind itself is the endpoint
        yield from (view.kind.lower(), f"{view.kind.lower()}s")


_BY_SPELLING: Mapping[str, View] = {
    **{spelling: view for view in VIEWS for spelling in _spellings(view)},
    **{short: view for view in VIEWS for short, title in _SHORT.items() if view.title == title},
}


def find_view(text: str) -> View:
    """By plural, singular, Calico's or kubectl's short spelling, in upper or lower case.  Raises ConfigError."""
    view = _BY_SPELLING.get(text.lower()) or _BY_SPELLING.get(text.lower().removesuffix("s"))
    if view is None:
        raise ConfigError(
            f"{shown(text)} is not a kind",
            hint=f"kinds: {', '.join(view.title for view in VIEWS)}; get knows routes and config too",
        )
    return view


def split_name(view: View, text: str, namespace: str | None) -> tuple[str | None, str]:
    """`NAME`, or `NAMESPACE/NAME` where the kind has namespaces."""
    before, slash, name = text.rpartition("/")
    if view.namespaced:
        return (before or namespace), name
    if slash:
        raise ConfigError(f"{shown(text)}: {view.title} have no namespace", hint=f"netloom get {view.title}")
    return None, text


def complete_kind(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    local = ("routes", "config") if ctx.info_name == "get" else ()
    return [title for title in (*(view.title for view in VIEWS), *local) if title.startswith(incomplete)]


def complete_name(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names that exist; nothing where the datastore cannot be asked, for no one reads an error inside a half-typed line."""
    from netloom.cli.context import Context
    from netloom.errors import NetloomError

    try:
        view = find_view(str(ctx.params.get("kind", "")))
        with ctx.ensure_object(Context).datastore() as datastore:
            found = datastore.list(view.kind).items
    except NetloomError:
        return []
    names = {f"{s.resource.metadata.namespace}/{view.name(s.resource)}" if view.namespaced else s.resource.name for s in found}
    return sorted(name for name in names if name.startswith(incomplete))
