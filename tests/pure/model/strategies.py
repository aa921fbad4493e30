"""Resources of every kind, as hypothesis draws them: all values that a resource may have, none that it may not."""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from netloom.model.addresses import Address, Interface, Prefix, overlap
from netloom.model.attachments import PublishedPort
from netloom.model.resources import (
    BLOCK_SIZES,
    NETWORK_LENGTHS,
    Claim,
    DatastoreCopy,
    DatastoreCopySpec,
    Encapsulation,
    Endpoint,
    EndpointSpec,
    IPBlock,
    IPBlockRequest,
    IPBlockRequestSpec,
    IPBlockSpec,
    IPPool,
    IPPoolSpec,
    IPReservation,
    IPReservationSpec,
    Metadata,
    Namespace,
    Node,
    NodeSpec,
    Resource,
)

LOWER = string.ascii_lowercase + string.digits
names = st.text(LOWER, min_size=1, max_size=12) | st.builds(
    "{}-{}".format, st.text(LOWER, min_size=1, max_size=12), st.text(LOWER, min_size=1, max_size=12)
)
namespaces = st.text(LOWER, min_size=1, max_size=12)
label_values = (
    st.just("")
    | st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
    | st.sampled_from(["1e3", "yes", "0x1f", "012"])
)
labels = st.dictionaries(names | st.builds("example.org/{}".format, names), label_values, max_size=3)
annotations = st.dictionaries(names, st.text(max_size=20), max_size=2)
macs = st.binary(min_size=5, max_size=5).map(lambda tail: (b"\x0a" + tail).hex(":"))
interfaces = st.text(string.ascii_letters + string.digits + ".-_", min_size=1, max_size=15).filter(
    lambda t: t not in (".", "..", "all", "default")
)
selectors = st.sampled_from(["", "all()", "gpu == 'yes'", "!has(old) && zone in {'a', 'b'}"])


def addresses(version: int) -> st.SearchStrategy[Address]:
    return st.ip_addresses(v=version)  # type: ignore[arg-type]  # 4 or 6


versions = st.sampled_from((4, 6))
any_address = versions.flatmap(addresses)


@st.composite
def prefixes(draw: Callable[..., Any], version: int | None = None, shortest: int = 0) -> Prefix:
    address = draw(addresses(version or draw(versions)))
    length = draw(st.integers(shortest, address.max_prefixlen))
    return ipaddress.ip_network((address, length), strict=False)


@st.composite
def networked(draw: Callable[..., Any], version: int) -> Interface:
    address = draw(addresses(version))
    return ipaddress.ip_interface((address, draw(st.integers(1, address.max_prefixlen))))


@st.composite
def one_per_family(draw: Callable[..., Any], of: Callable[[int], st.SearchStrategy[Any]]) -> tuple[Any, ...]:
    chosen = draw(st.lists(versions, unique=True))
    return tuple(draw(of(version)) for version in chosen)


def metadata(*, namespaced: bool = False) -> st.SearchStrategy[Metadata]:
    return st.builds(
        Metadata, name=names, namespace=namespaces if namespaced else st.none(), labels=labels, annotations=annotations
    )


node_specs = st.builds(
    NodeSpec,
    id=st.uuids().map(str),
    addresses=one_per_family(networked),
    tunnel_addresses=one_per_family(addresses),
    vtep_mac=st.none() | macs,
    mtu=st.integers(0, 65535),
)


def is_for_pods(cidr: Prefix) -> bool:
    special = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::/127", "fe80::/10", "ff00::/8"]
    return not any(overlap(cidr, ipaddress.ip_network(text)) for text in special)


@st.composite
def pool_specs(draw: Callable[..., Any]) -> IPPoolSpec:
    cidr = draw(prefixes(shortest=1).filter(is_for_pods))
    sizes = [size for size in BLOCK_SIZES[cidr.version] if size >= cidr.prefixlen]
    return IPPoolSpec(
        cidr=cidr,
        block_size=draw(st.sampled_from(sizes)),
        encapsulation=draw(st.sampled_from(Encapsulation)),
        nat_outgoing=draw(st.booleans()),
        node_selector=draw(selectors),
        namespace_selector=draw(selectors),
        disabled=draw(st.booleans()),
    )


@st.composite
def network_specs(draw: Callable[..., Any]) -> IPPoolSpec:
    """Pools that belong to a network."""
    version = draw(versions)
    lengths = NETWORK_LENGTHS[version]
    whole = prefixes(version, lengths[0]).filter(lambda p: p.prefixlen in lengths and is_for_pods(p))
    cidr = draw(whole)
    first, last = int(cidr.network_address) + 1, int(cidr.broadcast_address) - 1
    internal = draw(st.booleans())
    return IPPoolSpec(
        cidr=cidr,
        network=draw(names),
        node=draw(names),
        gateway=draw(st.none() | st.integers(first, last).map(type(cidr.network_address))),
        internal=internal,
        isolated=draw(st.booleans()),
        nat_outgoing=not internal and draw(st.booleans()),
    )


@st.composite
def block_specs(draw: Callable[..., Any]) -> IPBlockSpec:
    cidr = draw(prefixes(shortest=20))
    parts = list(cidr.subnets(prefixlen_diff=min(2, cidr.max_prefixlen - cidr.prefixlen)))
    claimed = draw(st.lists(st.sampled_from(parts), unique=True))
    return IPBlockSpec(cidr=cidr, claims=tuple(Claim(cidr=c, node=draw(names), node_id=str(draw(st.uuids()))) for c in claimed))


endpoint_specs = st.builds(
    EndpointSpec,
    node=names,
    network=names,
    container_id=st.text(string.hexdigits, min_size=1),
    interface=interfaces,
    host_interface=interfaces,
    pod=st.just("") | names,
    addresses=one_per_family(addresses),
    mac=macs,
    netns=st.builds("{}:{}".format, st.integers(0, 1 << 32), st.integers(0, 1 << 64)),
    ports=st.lists(
        st.builds(
            PublishedPort,
            protocol=st.sampled_from(["tcp", "udp", "sctp"]),
            host_port=st.integers(1, 65535),
            container_port=st.integers(1, 65535),
            host_address=st.none() | versions.flatmap(addresses),
        ),
        max_size=3,
    ).map(tuple),
)

nodes = st.builds(Node, metadata=metadata(), spec=node_specs)
pools = st.builds(IPPool, metadata=metadata(), spec=pool_specs())
network_pools = st.builds(IPPool, metadata=metadata(), spec=network_specs())
blocks = st.builds(IPBlock, metadata=metadata(), spec=block_specs())
requests = st.builds(
    IPBlockRequest,
    metadata=metadata(),
    spec=st.builds(IPBlockRequestSpec, node_id=names, pools=st.dictionaries(names, st.integers(0, 1 << 12), max_size=3)),
)
reservations = st.builds(
    IPReservation,
    metadata=metadata(),
    spec=st.builds(IPReservationSpec, reserved_cidrs=st.lists(prefixes(), max_size=3).map(tuple)),
)
endpoints = st.builds(Endpoint, metadata=metadata(namespaced=True), spec=endpoint_specs)
copies = st.builds(DatastoreCopy, metadata=metadata(), spec=st.builds(DatastoreCopySpec, source=names))
resources: st.SearchStrategy[Resource] = st.one_of(
    nodes, pools, network_pools, blocks, requests, reservations, endpoints, copies, st.builds(Namespace, metadata=metadata())
)
