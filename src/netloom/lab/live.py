"""The places of a node that is not a lab: its pods out of the datastore, their namespaces out of the kernel.

An Endpoint names its namespace by identity (device and inode of nsfs).  Whoever holds it shows it: a process in
/proc/PID/ns/net, or a name in /run/netns.  Both are searched; a path is opened before it is compared, so what is found is held.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain

from netloom.dataplane import netns
from netloom.datastore import Datastore
from netloom.lab.inside import addresses_inside
from netloom.lab.probes import Kind, Place, pod_place
from netloom.lab.record import NAMESPACES
from netloom.model.addresses import Address
from netloom.model.resources import Endpoint, IPPool, Node


@contextmanager
def places(datastore: Datastore, node_name: str) -> Iterator[tuple[list[Place], list[str]]]:
    """This node and its pods, with open descriptors for the time of the block; and the pods whose namespace nobody holds."""
    endpoints = [
        resource
        for stored in datastore.list("Endpoint").items
        if isinstance(resource := stored.resource, Endpoint) and resource.spec.node == node_name
    ]
    with ExitStack() as stack:
        namespaces = _open_namespaces({e.spec.netns for e in endpoints}, stack)
        nodes = list(_node_places(datastore, node_name, stack))
        own = frozenset(a for node in nodes for a in node.own)
        pools = [pool.spec for stored in datastore.list("IPPool").items if isinstance(pool := stored.resource, IPPool)]
        pods = [
            pod_place(_name(e), namespaces[e.spec.netns], e.spec.addresses, node_name, own, pools)
            for e in endpoints
            if e.spec.netns in namespaces
        ]
        yield nodes + pods, [_name(e) for e in endpoints if e.spec.netns not in namespaces]


def _node_places(datastore: Datastore, node_name: str, stack: ExitStack) -> Iterator[Place]:
    stored = datastore.get("Node", node_name)
    if stored and isinstance(node := stored.resource, Node):
        namespace = netns.own()
        stack.callback(os.close, namespace)
        own: frozenset[Address] = frozenset(a.ip for a in addresses_inside(namespace))
        yield Place(node_name, Kind.NODE, namespace, tuple(a.ip for a in node.spec.addresses), own, node_name)


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.metadata.namespace}/{endpoint.spec.pod or endpoint.name}"


def _open_namespaces(wanted: set[str], stack: ExitStack) -> Mapping[str, int]:
    """Identity → descriptor, as far as found; closed with `stack`."""
    found: dict[str, int] = {}
    for path in chain(_named(), _of_processes()):
        if found.keys() == wanted:
            break
        with suppress(OSError):  # it has just gone, or is no namespace
            descriptor = netns.open_netns(path)
            identity = str(netns.identify(descriptor))
            if identity in wanted and identity not in found:
                found[identity] = descriptor
                stack.callback(os.close, descriptor)
            else:
                os.close(descriptor)
    return found


def _named() -> Sequence[str]:
    with suppress(FileNotFoundError):
        return [f"{NAMESPACES}/{name}" for name in os.listdir(NAMESPACES)]
    return []


def _of_processes() -> Iterator[str]:
    """One path for each namespace that some process is in."""
    seen = set()
    for entry in os.listdir("/proc"):
        path = f"/proc/{entry}/ns/net"
        with suppress(OSError):
            if entry.isdigit() and (link := os.readlink(path)) not in seen:
                seen.add(link)
                yield path
