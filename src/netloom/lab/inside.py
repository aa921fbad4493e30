"""A namespace seen from inside, by descriptor: its addresses, and a mark that tells which lab made it.

The mark is the alias of the namespace's `lo`.  It is set before the namespace gets its name, so every named one can be
recognised, also when all records are lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from netloom.dataplane import netns
from netloom.dataplane.netlink import links, tables
from netloom.dataplane.netlink.connection import Netlink
from netloom.lab.record import NAMESPACES
from netloom.model.addresses import Interface

LOOPBACK = 1  # the kernel gives `lo` index 1 in every namespace (net/core/dev.c)
_MARK = "netloom-lab "


def addresses_inside(namespace: int, interface: str | None = None) -> list[Interface]:
    """Of one interface (none if it does not exist), or of all but `lo`."""
    with Netlink(namespace) as netlink:
        names = dict(links.parse_index_and_name(body) for body in netlink.dump(links.get_links()))
        found = []
        for version in (4, 6):
            for body in netlink.dump(tables.get_addresses(version)):
                index, address, _ = tables.parse_address(body)
                if names.get(index) == interface or (interface is None and index != LOOPBACK):
                    found.append(address)
        return found


def new_namespace(lab: str, path: str, sysctls: Mapping[str, str]) -> int:
    """Made, marked, `lo` up, sysctls written, then named.  The descriptor is the caller's to close."""
    namespace = netns.create()
    try:
        with netns.entered(namespace):
            for name, value in sysctls.items():
                _write_sysctl(name, value)
        with Netlink(namespace) as netlink:
            netlink.transact(links.set_link(LOOPBACK, up=True, alias=_MARK + lab))
        netns.give_name(namespace, path)
    except BaseException:
        os.close(namespace)
        raise
    return namespace


def marked_namespaces(lab: str) -> Iterator[str]:
    """Paths of the namespaces that this lab made."""
    with suppress(FileNotFoundError):
        for name in os.listdir(NAMESPACES):
            path = f"{NAMESPACES}/{name}"
            if _mark(path) == _MARK + lab:
                yield path


def _mark(path: str) -> str:
    """Empty for what is no namespace, or has just gone."""
    with suppress(OSError):
        namespace = netns.open_netns(path)
        try:
            with Netlink(namespace) as netlink:
                return links.parse_link(netlink.ask(links.get_link("lo"))).alias
        finally:
            os.close(namespace)
    return ""


def _write_sysctl(name: str, value: str) -> None:
    """In the calling thread's namespace.  A name that this kernel does not have is passed over: its feature is not there either."""
    with suppress(FileNotFoundError), open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
        file.write(value)
