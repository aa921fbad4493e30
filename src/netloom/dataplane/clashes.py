"""Clashes: what others on this host have that our tunnels want for themselves: a VNI, a UDP port, a name.

The kernel says of some that they exist, of some nothing.  Nothing of others is taken away: it is named, with what helps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from netloom.dataplane.netlink import Device, Netlink, devices
from netloom.model.desired import Engine, Link, Tunnel, Vxlan

_SOCKETS = ("/proc/thread-self/net/udp", "/proc/thread-self/net/udp6")


def look(want: Mapping[str, Link]) -> list[str]:
    """For the calling thread's namespace."""
    with Netlink() as kernel:
        return list(find(devices(kernel), want, udp_ports()))


def find(found: Iterable[Device], want: Mapping[str, Link], ports: Collection[int]) -> Iterator[str]:
    """`ports`: UDP ports that somebody listens on: processes, or the kernel for VXLAN devices that are up."""
    found = list(found)
    others = [device for device in found if device.name not in want]
    own = {device.vxlan.port for device in found if device.vxlan and device.up}
    for name, link in sorted(want.items()):
        match link:
            case Vxlan():
                yield from _vxlan(name, link, others)
                port, setting = 0 if link.port in own else link.port, "vxlanPort"
            case Tunnel(engine=Engine.EBPF) if link.port:
                port, setting = link.port, "udpPort"
            case _:
                continue
        if port in ports:
            yield f"a process listens on UDP port {port}, which {name} needs; ss -ulpn sport = {port} says which, or set another {setting} on every node"


def udp_ports() -> frozenset[int]:
    found: set[int] = set()
    for path in _SOCKETS:
        with suppress(FileNotFoundError), open(path, encoding="ascii") as file:  # no IPv6
            found.update(int(line.split()[1].rpartition(":")[2], 16) for line in file.read().splitlines()[1:])
    return frozenset(found)


def _vxlan(name: str, link: Vxlan, others: Iterable[Device]) -> Iterator[str]:
    for other in others:
        if other.vxlan is None or other.vxlan.port != link.port:
            continue
        if other.vxlan.vni == link.vni:
            yield (
                f"{other.name} has VNI {link.vni} on UDP port {link.port}, which {name} needs; ip link delete {other.name}, "
                "or set another vxlanVni on every node"
            )
        else:
            yield (
                f"{other.name} speaks VXLAN on UDP port {link.port}, as {name} does: what comes for it from others than nodes is "
                f"dropped; ip link delete {other.name}, or set another vxlanPort on every node"
            )
