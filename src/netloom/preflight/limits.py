"""How much there is room for."""

from __future__ import annotations

from collections.abc import Iterator

from netloom.calc.encap import ENCAPS
from netloom.findings import Finding, Level
from netloom.model.addresses import IPV6_MTU
from netloom.model.attachments import Wiring
from netloom.preflight.addresses import outer
from netloom.preflight.crossing import overhead, tunnels
from netloom.preflight.facts import Facts, known

_LEAST_MTU = 576  # of a pod's interface
_SCARCE, _NONE = 16 << 20, 1 << 20  # bytes
_FEW_FILES, _NO_FILES = 1000, 16
_FEW_DESCRIPTORS = 4096
_RELEASED = 1_735_689_600.0  # 2025-01-01: no clock that is right is before that
_SKEW = 5.0  # seconds


def mtu(facts: Facts) -> Iterator[Finding]:
    address = outer(facts)
    crossing = tunnels(facts)
    if address is None or not crossing:
        return
    uplink = next((u for u in known(facts.uplinks).values() if address.ip in {a.ip for a in u.addresses}), None)
    if uplink is None:
        return
    around = max(overhead(form, address) for form in crossing)
    room = uplink.mtu - around
    wanted = facts.settings.mtu
    if wanted > room:
        message = f"mtu is {wanted}, and {uplink.name} leaves {room} bytes in a tunnel: larger packets of pods are lost"
        yield Finding(
            Level.PROBLEM, message, f"mtu: 0 in /etc/netloom/agent.yaml; or ip link set {uplink.name} mtu {wanted + around}"
        )
    hint = f"ip link set {uplink.name} mtu 1500"
    if room < _LEAST_MTU:
        yield Finding(
            Level.PROBLEM, f"has an MTU of {uplink.mtu}: a tunnel leaves {room} bytes, too few for pods", hint, uplink.name
        )
    elif room < IPV6_MTU:
        message = f"has an MTU of {uplink.mtu}: a tunnel leaves {room} bytes, and IPv6 needs {IPV6_MTU}"
        yield Finding(Level.WARNING, message, hint, uplink.name)
    rooms = {ENCAPS[form.method].DEVICE: uplink.mtu - overhead(form, address) for form in crossing}
    for link in known(facts.links):
        if link.mtu > rooms.get(link.name, link.mtu):
            message = f"has an MTU of {link.mtu}, and {uplink.name} leaves {rooms[link.name]}"
            yield Finding(Level.PROBLEM, message, f"ip link set {link.name} mtu {rooms[link.name]}", link.name)


def connections(facts: Facts) -> Iterator[Finding]:
    """A full table drops every new connection."""
    tracked = known(facts.tracked)
    if tracked is None:
        return
    count, most = tracked
    if 100 * count >= 80 * most:
        level = Level.PROBLEM if 100 * count >= 95 * most else Level.WARNING
        message = f"{count} connections are tracked, of at most {most}"
        yield Finding(level, message, f"sysctl -w net/netfilter/nf_conntrack_max={4 * most}", "net/netfilter/nf_conntrack_max")


def neighbours(facts: Facts) -> Iterator[Finding]:
    """One table for all namespaces of the host.  Permanent entries, as routed pods and tunnels have them, do not count."""
    nodes = len(facts.cluster.cluster.nodes) if facts.cluster else 0
    pods = sum(a.wiring is Wiring.BRIDGE for a in facts.agent.attachments) if facts.agent else 0
    for table in known(facts.neighbours):
        switch = f"net/ipv{table.version}/neigh/default/gc_thresh3"
        needed = max(table.entries, nodes + pods)
        if 100 * needed >= 80 * table.limit:
            level = Level.PROBLEM if needed >= table.limit else Level.WARNING
            of = (
                f"{table.entries} neighbours are known"
                if needed == table.entries
                else f"{nodes} nodes and {pods} pods on bridges"
            )
            commands = (f"sysctl -w {switch[:-1]}{number}={size * needed}" for number, size in ((3, 8), (2, 4), (1, 1)))
            yield Finding(level, f"{of}, of at most {table.limit}", "; ".join(commands), switch)


def clock(facts: Facts) -> Iterator[Finding]:
    if facts.now < _RELEASED:
        yield Finding(
            Level.PROBLEM, "the clock is years behind: certificates and records are of the future", "timedatectl set-ntp true"
        )
    elif (skew := known(facts.skew)) > _SKEW:
        message = f"the datastore was written {skew:.0f} s in the future: this clock, or the one that wrote it, is wrong"
        yield Finding(Level.WARNING, message, "timedatectl; chronyc tracking")


def space(facts: Facts) -> Iterator[Finding]:
    """The journal takes some hundred bytes for each pod; without it no pod is made."""
    for room in known(facts.rooms):
        files = room.files if room.files >= 0 else _FEW_FILES
        if room.bytes < _SCARCE or files < _FEW_FILES:
            level = Level.PROBLEM if room.bytes < _NONE or files < _NO_FILES else Level.WARNING
            left = f"{room.bytes >> 10} KiB and {files} files" if room.files >= 0 else f"{room.bytes >> 10} KiB"
            yield Finding(level, f"has room for {left}", f"df {room.path}; df -i {room.path}", room.path)


def descriptors(facts: Facts) -> Iterator[Finding]:
    """Each CNI call under way takes two."""
    if 0 < (most := known(facts.descriptors)) < _FEW_DESCRIPTORS:
        hint = "LimitNOFILE=65536 under [Service], by systemctl edit netloom-agent; without systemd: ulimit -Hn 65536 before it starts"
        yield Finding(Level.WARNING, f"the agent may open {most} files and sockets: too few for many pods at once", hint)
