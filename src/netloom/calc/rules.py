"""The rules around the pods: who may send from what, what is masqueraded, who may send us other nodes' packets, and the sysctls they need."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from netloom.calc.forms import opened
from netloom.calc.networks import alone, apart, links, of_node
from netloom.calc.ports import published
from netloom.calc.same import Same
from netloom.model.addresses import Address
from netloom.model.attachments import Attachment
from netloom.model.desired import IPIP, UDP, Carrier, Engine, Filter, Outer, Source
from netloom.model.forms import Form, Method
from netloom.model.host import Host
from netloom.model.routing import BgpConfig, Session
from netloom.model.snapshot import Snapshot

LOOSE = "2"
"""Of `rp_filter`: the source is to be reached by some way, not by the one that the packet came by."""
_BFD = {False: 3784, True: 4784}
"""UDP port by whether routers may be between: RFC 5881, RFC 5883."""


def sources(attachment: Attachment) -> frozenset[Source]:
    """What one pod may send from."""
    return frozenset(Source(attachment.host_interface, attachment.mac, address.ip) for address in attachment.addresses)


def rules(
    snapshot: Snapshot,
    attachments: Iterable[Attachment],
    host: Host,
    tunnels: frozenset[str],
    vteps: frozenset[Address],
    bgp: BgpConfig | None,
) -> Filter:
    """`tunnels`: the devices that lead to other nodes; `vteps`: what nodes send from."""
    attachments = tuple(attachments)
    pools = of_node(snapshot.pools.values(), host.node)
    forms = opened(snapshot, host)
    outers = frozenset(outer for form in forms if (outer := outer_of(form, host)))
    among = outers or bgp or (host.probe_port and len(snapshot.nodes) > 1)
    kept_apart = apart(pools, attachments)
    by_itself = alone(pools, attachments, kept_apart)
    return Filter(
        sources=frozenset().union(*(sources(a) for a in attachments)),
        pools=frozenset(pool.spec.cidr for pool in pools) | links(attachments),
        masquerade=frozenset(pool.spec.cidr for pool in pools if pool.spec.nat_outgoing),
        blocks=frozenset(host.blocks) if tunnels else frozenset(),
        vteps=vteps if among else frozenset(),
        outers=outers,
        carried=frozenset(form.port for form in forms if form.port),
        tunnels=tunnels,
        probe_port=host.probe_port if len(snapshot.nodes) > 1 else 0,
        bgp_port=bgp.port if bgp else 0,
        bgp_peers=_bgp_peers(Same(bgp.sessions)) if bgp else frozenset(),
        bgp_ports=frozenset(session.port for session in bgp.sessions) if bgp else frozenset(),
        bfd_ports=_bfd_ports(Same(bgp.sessions)) if bgp else frozenset(),
        bridges=frozenset(a.bridge for a in attachments if a.bridge),
        internal=kept_apart.internal,
        isolated=kept_apart.isolated - by_itself,
        alone=by_itself,
        published=frozenset(port for a in attachments for port in published(a)),
    )


@functools.lru_cache(2)
def _bgp_peers(sessions: Same[tuple[Session, ...]]) -> frozenset[Address]:
    return frozenset(session.address for session in sessions.it)


@functools.lru_cache(2)
def _bfd_ports(sessions: Same[tuple[Session, ...]]) -> frozenset[int]:
    return frozenset(_BFD[session.multihop] for session in sessions.it if session.bfd is not None)


def outer_of(form: Form, host: Host) -> Outer | None:
    """What of it has to pass the rules."""
    match form.method:
        case Method.VXLAN:
            return Outer(UDP, form.port)
        case Method.UDP:
            return Outer(UDP, form.port) if host.engines.get(Carrier.UDP) is Engine.FORWARDER else None
        case Method.IPIP:
            return Outer(IPIP) if host.engines.get(Carrier.IPIP) is Engine.KERNEL else None
    return None


def sysctls(snapshot: Snapshot, host: Host) -> dict[str, str]:
    """Forwarding in each family that has a pool, IPv4's also of each uplink, which may differ; loose reverse path checks where a tunnel
    makes paths asymmetric.

    An uplink that takes router advertisements only while the host does not forward has to take them all the same, and before
    the host forwards: the kernel forgets the default routes from there otherwise."""
    pools = of_node(snapshot.pools.values(), host.node)
    versions = {pool.spec.cidr.version for pool in pools} | {block.version for block in host.blocks}
    own = [u for u in host.uplinks.values() if {a.ip for a in u.addresses} & {a.ip for a in host.addresses}]
    found: dict[str, str] = {}
    if 4 in versions:
        found["net/ipv4/ip_forward"] = "1"
        found |= {f"net/ipv4/conf/{u.name}/forwarding": "1" for u in host.uplinks.values() if u.default or u in own}
    if 6 in versions:
        ways_out = [u for u in host.uplinks.values() if u.default or u in own]
        found |= {f"net/ipv6/conf/{u.name}/accept_ra": "2" for u in ways_out if u.accept_ra == 1}
        found["net/ipv6/conf/all/forwarding"] = "1"
    return found | {f"net/ipv4/conf/{uplink.name}/rp_filter": LOOSE for uplink in own}
