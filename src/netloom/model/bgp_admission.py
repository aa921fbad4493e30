"""Admission of what says who speaks BGP: does it fit to the nodes, pools, filters and secrets that there are?

The same is left out, and told, by each node's calculation; here whoever writes it hears so before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from netloom.model.addresses import overlap
from netloom.model.bgp_configuration import BGPConfiguration
from netloom.model.bgp_peer import BGPPeer
from netloom.model.bgp_session import BGPPassword
from netloom.model.problem import Problem
from netloom.model.resources import AnyResource, IPPool, Node
from netloom.model.snapshot import Snapshot

_NAMED = 3
_SERVICES = {
    "serviceClusterIPs": "service_cluster_ips",
    "serviceExternalIPs": "service_external_ips",
    "serviceLoadBalancerIPs": "service_load_balancer_ips",
}


def check_bgp(existing: Snapshot, new: Iterable[AnyResource]) -> Iterator[Problem]:
    """What stands against writing `new`, all of it together, over `existing`."""
    written = tuple(new)
    after = existing.updated(existing.revision, [(r.kind, r.key, r) for r in written])
    for resource in written:
        match resource:
            case BGPPeer():
                yield from _peer(resource, after, {r.key for r in written if isinstance(r, BGPPeer)})
            case BGPConfiguration():
                yield from _configuration(resource, after)
            case Node():
                yield from _node(resource, existing.nodes.get(resource.key))
            case IPPool():
                yield from _pool(resource, after, written)


def check_bgp_deletion(existing: Snapshot, removed: Iterable[AnyResource]) -> Iterator[Problem]:
    """What stands against deleting `removed`, all of it together."""
    gone = {(r.kind, r.key): r for r in removed}
    for peer in existing.bgp_peers.values():
        if (peer.kind, peer.key) in gone:
            continue
        for name in peer.spec.filters:
            if route_filter := gone.get(("BGPFilter", name)):
                hint = f"take it out of spec.filters there first: netloom get bgppeer {peer.name} -o yaml"
                yield Problem(route_filter, "", f"BGPPeer {peer.name} goes by it", hint)
    users: list[tuple[AnyResource, BGPPassword | None]] = [(p, p.spec.password) for p in existing.bgp_peers.values()]
    users += [(c, c.spec.node_mesh_password) for c in existing.bgp_configurations.values()]
    for user, password in users:
        if password is None or password.secret_key_ref.optional or (user.kind, user.key) in gone:
            continue
        if secret := gone.get(("Secret", password.secret_key_ref.name)):
            hint = "write another password there first; without one it would have no session"
            yield Problem(secret, "", f"{user.kind} {user.name} has its password there", hint)


def _peer(peer: BGPPeer, after: Snapshot, new: set[str]) -> Iterator[Problem]:
    yield from _missing_filters(peer, after)
    yield from _password(peer, "spec.password", peer.spec.password, after)
    if peer.spec.peer is None:
        return
    address, _ = peer.spec.peer
    nodes = [node for node in after.nodes.values() if peer.is_for(node.name, node.metadata.labels)]
    if nodes and all(any(a.ip == address for a in node.spec.addresses) for node in nodes):
        message = f"{address} is the address of node {nodes[0].name} itself, and nobody peers with itself"
        yield Problem(peer, "spec.peerIP", message, "name the peer's address; nodes peer with each other by peerSelector")
    for other in sorted(after.bgp_peers.values(), key=lambda other: (other.key in new, other.key)):
        if other.key == peer.key or other.spec.peer is None or other.spec.peer[0] != address:
            continue
        if other.key in new and other.key > peer.key:
            continue  # that one is blamed
        if both := _shared(peer, other, after.nodes):
            message = f"BGPPeer {other.name} has {address} already, {both}; a node has one session with one address"
            yield Problem(peer, "spec.peerIP", message, f"change that one, or delete it: netloom get bgppeer {other.name}")
            return


def _shared(one: BGPPeer, other: BGPPeer, nodes: Mapping[str, Node]) -> str:
    """Which nodes both are for, in words; empty for none."""
    if not (one.spec.node or one.spec.node_selector) and not (other.spec.node or other.spec.node_selector):
        return "for all nodes"
    found = [n for n, node in sorted(nodes.items()) if all(p.is_for(n, node.metadata.labels) for p in (one, other))]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"for {', '.join(found[:_NAMED])}{more}, too" if found else ""


def _missing_filters(peer: BGPPeer, after: Snapshot) -> Iterator[Problem]:
    for i, name in enumerate(peer.spec.filters):
        if name not in after.bgp_filters:
            hint = "apply it first, or in the same file; what there is: netloom get bgpfilters"
            yield Problem(peer, f"spec.filters[{i}]", f"there is no BGPFilter {name}", hint)


def _password(resource: AnyResource, path: str, password: BGPPassword | None, after: Snapshot) -> Iterator[Problem]:
    if password is None or password.secret_key_ref.optional:
        return
    reference = password.secret_key_ref
    secret = after.secrets.get(reference.name)
    if secret is None or reference.key not in secret.data:
        what = f"Secret {reference.name}" if secret is None else f"key {reference.key} in Secret {reference.name}"
        hint = "apply the Secret first, or in the same file; where every node has it as a file, say `optional: true`"
        yield Problem(resource, f"{path}.secretKeyRef", f"there is no {what}: its password is missing", hint)


def _configuration(configuration: BGPConfiguration, after: Snapshot) -> Iterator[Problem]:
    spec = configuration.spec
    yield from _password(configuration, "spec.nodeMeshPassword", spec.node_mesh_password, after)
    cluster = after.bgp_configurations.get(BGPConfiguration.NAME)
    known = {c.name for c in (*spec.communities, *(cluster.spec.communities if cluster else ()))}
    for i, advertisement in enumerate(spec.prefix_advertisements):
        missing = [text for text in advertisement.communities if ":" not in text and text not in known]
        if missing:
            path = f"spec.prefixAdvertisements[{i}].communities"
            hint = "name it in spec.communities, or write its value: 65000:100"
            yield Problem(configuration, path, f"no community is called {', '.join(missing)}", hint)
    for field, i, pool in _drawn(configuration, after.pools.values()):
        message = f"{getattr(spec, _SERVICES[field])[i].cidr} overlaps pool {pool.name} ({pool.spec.cidr})"
        yield Problem(
            configuration, f"spec.{field}[{i}].cidr", message, "addresses of services are no pods': choose another range"
        )


def _drawn(configuration: BGPConfiguration, pools: Iterable[IPPool]) -> Iterator[tuple[str, int, IPPool]]:
    """Ranges of services that overlap pools: field, place, pool."""
    ours = [pool for pool in pools if not pool.spec.network]
    for field, python in _SERVICES.items():
        for i, block in enumerate(getattr(configuration.spec, python)):
            yield from ((field, i, pool) for pool in ours if overlap(pool.spec.cidr, block.cidr))


def _pool(pool: IPPool, after: Snapshot, written: Iterable[AnyResource]) -> Iterator[Problem]:
    """Against configurations that are there; those that are written with it are blamed themselves."""
    new = {r.key for r in written if isinstance(r, BGPConfiguration)}
    for configuration in after.bgp_configurations.values():
        if configuration.key not in new:
            for field, _, _ in _drawn(configuration, [pool]):
                message = f"{pool.spec.cidr} overlaps a range in BGPConfiguration {configuration.name}, {field}"
                yield Problem(pool, "spec.cidr", message, "addresses of services are no pods': choose another range")


def _node(node: Node, old: Node | None) -> Iterator[Problem]:
    if old is None or node.spec.bgp is None or not old.spec.addresses:
        return
    for said in node.spec.bgp.addresses:
        has = old.spec.address(said.version)
        if has is None or has.ip != said.ip:
            message = f"{said.ip} is not what node {node.name} has: {has.ip if has else f'no IPv{said.version} address'}"
            hint = "leave it out; a node's address is chosen by nodeAddresses or ipAutodetectionMethod in its agent.yaml"
            yield Problem(node, f"spec.bgp.ipv{said.version}Address", message, hint)
