"""Announced: what this node tells its peers.

    its blocks     as they were claimed, each by itself, so that one more changes nothing else; a /32 only for a block of one.  None of
                   a pool that says `disableBGPExport`, none of a network of one host, nothing that is in no pool
    services       each range that the configuration names, by every node; of a Service that is `Local` each address in those ranges, by
                   the nodes that have an endpoint.  None by a node that its label keeps away from load balancers

A range of services that overlaps a pool would draw pods' traffic: it is told of, and left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netloom.model.addresses import Address, Prefix, contains, host_prefix, overlap
from netloom.model.bgp_configuration import Aggregation, BGPConfigurationSpec, ServiceBlock
from netloom.model.bgp_values import parse_community
from netloom.model.host import Host
from netloom.model.resources import IPPool
from netloom.model.routing import Announced, Community
from netloom.model.service import Service, TrafficPolicy
from netloom.model.snapshot import Snapshot

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Kubernetes' label of a node that takes in nothing for services."""


def announced(snapshot: Snapshot, host: Host, settings: BGPConfigurationSpec, problems: list[str]) -> tuple[Announced, ...]:
    """One for each prefix, by family and address."""
    found: dict[Prefix, Announced] = {}
    tags = _Tags(settings, problems)
    for prefix, origin in (*_blocks(snapshot, host), *_services(snapshot, host, settings, problems)):
        found.setdefault(prefix, Announced(prefix, origin, tags.of(prefix)))
    return tuple(found[prefix] for prefix in sorted(found, key=lambda p: (p.version, p)))


class _Tags:
    """Communities by prefix."""

    def __init__(self, settings: BGPConfigurationSpec, problems: list[str]) -> None:
        named = {community.name: parse_community(community.value) for community in settings.communities}
        self._found: list[tuple[Prefix, tuple[Community, ...]]] = []
        for advertisement in settings.prefix_advertisements:
            missing = [text for text in advertisement.communities if ":" not in text and text not in named]
            if missing:
                problems.append(
                    f"BGPConfiguration: no community is called {', '.join(missing)}: what is announced in {advertisement.cidr} goes without"
                )
            values = (
                parse_community(text) if ":" in text else named[text]
                for text in advertisement.communities
                if text not in missing
            )
            self._found.append((advertisement.cidr, tuple(values)))

    def of(self, prefix: Prefix) -> tuple[Community, ...]:
        return tuple(dict.fromkeys(value for cidr, values in self._found if contains(cidr, prefix) for value in values))


def _blocks(snapshot: Snapshot, host: Host) -> Iterator[tuple[Prefix, str]]:
    for block in host.blocks:
        pool = next((pool for pool in snapshot.pools.values() if contains(pool.spec.cidr, block)), None)
        if pool is not None and not pool.spec.network and not pool.spec.disable_bgp_export:
            yield block, f"block of IPPool {pool.name}"


def _services(
    snapshot: Snapshot, host: Host, settings: BGPConfigurationSpec, problems: list[str]
) -> Iterator[tuple[Prefix, str]]:
    node = snapshot.nodes.get(host.node)
    if node is not None and EXCLUDED in node.metadata.labels:
        return
    pools = [pool for pool in snapshot.pools.values() if not pool.spec.network]
    cluster = list(_apart(settings.service_cluster_ips, "serviceClusterIPs", pools, problems))
    external = list(_apart(settings.service_external_ips, "serviceExternalIPs", pools, problems))
    balanced = list(_apart(settings.service_load_balancer_ips, "serviceLoadBalancerIPs", pools, problems))
    whole = settings.service_load_balancer_aggregation is Aggregation.ENABLED
    yield from ((cidr, "BGPConfiguration serviceClusterIPs") for cidr in cluster)
    yield from ((cidr, "BGPConfiguration serviceExternalIPs") for cidr in external)
    if whole:
        yield from ((cidr, "BGPConfiguration serviceLoadBalancerIPs") for cidr in balanced)
    for key, service in sorted(snapshot.services.items()):
        local = service.spec.external_traffic_policy is TrafficPolicy.LOCAL
        if local and host.node not in service.spec.nodes:
            continue
        for address in _addresses(service, cluster, external, balanced, each=local, balanced_each=local or not whole):
            yield host_prefix(address), f"Service {key}"


def _addresses(
    service: Service,
    cluster: Iterable[Prefix],
    external: Iterable[Prefix],
    balanced: Iterable[Prefix],
    *,
    each: bool,
    balanced_each: bool,
) -> Iterator[Address]:
    """Those that are told by themselves, inside the ranges."""
    spec = service.spec
    if each:
        yield from (address for address in spec.cluster_ips if any(address in cidr for cidr in cluster))
        yield from (address for address in spec.external_ips if any(address in cidr for cidr in external))
    if balanced_each:
        yield from (address for address in spec.load_balancer_ips if any(address in cidr for cidr in balanced))


def _apart(blocks: Iterable[ServiceBlock], field: str, pools: Iterable[IPPool], problems: list[str]) -> Iterator[Prefix]:
    for block in blocks:
        pool = next((pool for pool in pools if overlap(pool.spec.cidr, block.cidr)), None)
        if pool is None:
            yield block.cidr
        else:
            problems.append(f"BGPConfiguration {field}: {block.cidr} overlaps IPPool {pool.name}: it is not announced")
