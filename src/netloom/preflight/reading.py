"""The reader: looks at kernel, files and processes of this host, decides nothing and changes nothing.

What it looks at is that of the calling thread's network namespace; files are below `tree`, /proc is the kernel's.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from netloom.agent.facts import default_devices, read_uplinks
from netloom.agent.hosting import reached
from netloom.agent.state import AgentState
from netloom.calc.pods import BRIDGE_MAC
from netloom.config import Settings
from netloom.dataplane.foreign import legacy
from netloom.dataplane.foreign.fates import Fate
from netloom.dataplane.foreign.rules import Rules
from netloom.dataplane.netlink import Device, Netlink, devices
from netloom.dataplane.netlink.wire import AF_INET, AF_INET6, attributes, listed, to_text
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.dataplane.nft.objects import BRIDGE, INET, TableId, get_chains, get_rules
from netloom.datastore import check_target
from netloom.errors import NetloomError
from netloom.footprint import record as records
from netloom.footprint import runtimes
from netloom.footprint.files import LINK, PLUGIN
from netloom.footprint.runtimes import Runtime
from netloom.footprint.tree import Tree
from netloom.ipam.audit import Records
from netloom.model.addresses import Address
from netloom.model.attachments import PREFIX
from netloom.model.desired import Outer
from netloom.preflight import probing
from netloom.preflight.crossing import outers
from netloom.preflight.facts import Chain, Facts, Known, Neighbours, Network, Permission, Put, Room, Unread

T = TypeVar("T")

_SYS = "/proc/sys/"
_SWITCHES = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv6/conf/*/disable_ipv6",
    "net/bridge/bridge-nf-call-ip*tables",
)
_SYSCTL_DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")  # the first wins
_MANAGERS = {
    "systemd-udevd": "/run/udev/control",
    "systemd-networkd": "/run/systemd/netif/state",
    "NetworkManager": "/run/NetworkManager",
}
_LINK_FILES = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network")
_HOOKS = {0: "prerouting", 1: "input", 2: "forward", 3: "output", 4: "postrouting"}  # linux/netfilter.h
_FAMILIES = {INET: (4, 6), AF_INET: (4,), AF_INET6: (6,)}
_HOOKING = (INET, AF_INET, AF_INET6, BRIDGE)
_ENDS = frozenset((b"immediate\0", b"reject\0"))
_WITHOUT_CONDITION = _ENDS | {b"counter\0", b"log\0"}
_NF_DROP = 0
_SUFFIXES = (".conf", ".conflist", ".json")  # those that libcni reads
_LISTENS = "07"  # of a UDP socket in /proc/net/udp: TCP_CLOSE, unconnected


def read(
    settings: Settings, agent: AgentState | None = None, cluster: Records | None = None, tree: Tree | None = None
) -> Facts:
    tree = tree or Tree()
    links = _try(_links)
    runtime = _try(lambda: runtimes.find(tree))
    where = Runtime() if isinstance(runtime, Unread) else runtime
    return Facts(
        settings=settings,
        release=platform.release(),
        refused=_try(probing.refused),
        switches=_try(_switches),
        read_only=_try(_read_only),
        configured=_try(lambda: _configured(tree)),
        links=links,
        uplinks=_try(_uplinks),
        default=_try(_default_devices),
        chains=_try(lambda: _chains(outers(settings, cluster, agent))),
        legacy=_try(_legacy),
        runtime=runtime,
        networks=_try(lambda: tuple(_networks(tree, where.conf_dir))),
        plugins=_try(lambda: tuple(tree.names(where.bin_dir))),
        put=_try(lambda: _put(tree)),
        udp=_try(_udp),
        tracked=_try(_tracked),
        neighbours=_try(lambda: tuple(_neighbours())),
        rooms=_try(lambda: tuple(_rooms(settings))),
        descriptors=_try(lambda: _descriptors(agent)),
        permissions=_try(lambda: tuple(_permissions(settings))),
        now=time.time(),
        skew=_try(lambda: _skew(settings)),
        managers=_try(_managers),
        link_file=_try(lambda: _has_link_file(tree)),
        agent=agent,
        cluster=cluster,
        reached=_try(lambda: _reached(settings)),
    )


def _try(look: Callable[[], T]) -> Known[T]:
    """A thing that cannot be found out does not hide the others."""
    try:
        return look()
    except OSError as e:
        return Unread(": ".join(str(part) for part in (e.filename, e.strerror) if part) or type(e).__name__)
    except (NetloomError, ValueError) as e:
        return Unread(str(e))


def _text(path: str) -> str | None:
    """None: there is no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None


# the kernel


def _switches() -> Mapping[str, str]:
    paths = (path for pattern in _SWITCHES for path in glob.glob(f"{_SYS}{pattern}"))
    return {path.removeprefix(_SYS): text for path in paths if (text := _text(path)) is not None}


def _read_only() -> bool:
    return bool(os.statvfs("/proc/sys/net").f_flag & os.ST_RDONLY)


def _configured(tree: Tree) -> Mapping[str, tuple[str, str]]:
    """A file of /etc hides one of the same name in the others; then all in the order of their names, sysctl.conf last."""
    places: dict[str, str] = {}
    for directory in reversed(_SYSCTL_DIRECTORIES):
        places |= {name: f"{directory}/{name}" for name in tree.names(directory) if name.endswith(".conf")}
    found: dict[str, tuple[str, str]] = {}
    for path in (*(places[name] for name in sorted(places)), "/etc/sysctl.conf"):
        file = tree.look(path)
        for line in (file.content or b"").decode(errors="replace").splitlines() if file else ():
            name, equals, value = line.partition("=")
            if equals and not name.lstrip().startswith(("#", ";")):
                found[name.strip().removeprefix("-").replace(".", "/")] = (value.strip(), path)
    return found


def _links() -> tuple[Device, ...]:
    with Netlink() as kernel:
        return tuple(devices(kernel))


def _uplinks() -> Mapping[str, Any]:  # Any: read_uplinks' own value
    with Netlink() as kernel:
        bridges = [link.name for link in devices(kernel) if link.kind == "bridge" and link.mac == BRIDGE_MAC]
        return read_uplinks(kernel, bridges, default_devices(kernel))


def _default_devices() -> tuple[str, ...]:
    with Netlink() as kernel:
        return tuple(default_devices(kernel))


def _reached(settings: Settings) -> Mapping[Address, Address]:
    with Netlink() as kernel:
        return reached(kernel, settings)


def _chains(outers: Iterable[Outer]) -> tuple[Chain, ...]:
    with closing(Nfnetlink()) as kernel:
        return tuple(_chain(kernel, family, attributes(body), outers) for _, family, body in kernel.dump(get_chains()))


def _chain(kernel: Nfnetlink, family: int, chain: Mapping[int, bytes], outers: Iterable[Outer]) -> Chain:
    table, name = TableId(family, to_text(chain[1])), to_text(chain[3])
    number = attributes(chain[4]).get(1, b"") if 4 in chain else b""
    hook = _HOOKS.get(int.from_bytes(number, "big"), "other") if number and family in _HOOKING else ""
    drops = 5 in chain and int.from_bytes(chain[5], "big") == _NF_DROP
    if hook == "input":
        rules = Rules(kernel, table)
        closed = (
            (version, outer)
            for version in _FAMILIES.get(family, ())
            for outer in outers
            if rules.fate(name, outer, version, drops=drops) is Fate.DROPPED
        )
        return Chain(table, name, hook, closed=frozenset(closed))
    if hook == "forward":
        found = [attributes(rule).get(4, b"") for _, _, rule in kernel.dump(get_rules(table, name))]
        ours = any(PREFIX.encode() in rule for rule in found)
        return Chain(table, name, hook, drops or bool(found and _ends_all(found[-1])), ours)
    return Chain(table, name, hook)


def _ends_all(expressions: bytes) -> bool:
    """Whether this rule drops or rejects whatever comes to it."""
    steps = [attributes(step) for step in listed(expressions)]
    names = {step.get(1, b"") for step in steps}
    if not names or not names <= _WITHOUT_CONDITION:
        return False
    return b"reject\0" in names or any(_verdict(step) == _NF_DROP for step in steps if step.get(1) == b"immediate\0")


def _verdict(step: Mapping[int, bytes]) -> int | None:
    """NFTA_EXPR_DATA → NFTA_IMMEDIATE_DATA → NFTA_DATA_VERDICT → NFTA_VERDICT_CODE"""
    part = step.get(2, b"")
    for kind in (2, 2):
        part = attributes(part).get(kind, b"")
    code = attributes(part).get(1)
    return None if code is None else int.from_bytes(code, "big")


def _legacy() -> Mapping[int, tuple[str, ...] | None]:
    blind = {version: None for version in legacy.PROGRAMS if legacy.in_use(version) and legacy.program(version) is None}
    return {**blind, **{version: tuple(lines) for version, lines in legacy.listings()}}


def _udp() -> frozenset[int]:
    ports = set()
    for path in ("/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"):
        for line in (_text(path) or "").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(ports)


def _tracked() -> tuple[int, int] | None:
    count, most = (_text(f"{_SYS}net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    return (int(count), int(most)) if count and most else None


def _neighbours() -> Iterator[Neighbours]:
    for version, table in ((4, "arp_cache"), (6, "ndisc_cache")):
        limit = _text(f"{_SYS}net/ipv{version}/neigh/default/gc_thresh3")
        lines = (_text(f"/proc/thread-self/net/stat/{table}") or "").splitlines()
        if limit and len(lines) > 1:  # the limit is the first namespace's to show
            yield Neighbours(version, int(lines[1].split()[0], 16), int(limit))


# files


def _networks(tree: Tree, directory: str) -> Iterator[Network]:
    for name in tree.names(directory):
        if name.endswith(_SUFFIXES):
            found = tree.look(f"{directory}/{name}")
            yield Network(f"{directory}/{name}", *_network((found.content if found else None) or b""))


def _network(content: bytes) -> tuple[str, tuple[str, ...]]:
    try:
        document = json.loads(content)
    except ValueError:
        return "", ()
    if not isinstance(document, dict) or not isinstance(document.get("name"), str):
        return "", ()
    plugins = document.get("plugins", [document])
    types = (plugin.get("type") for plugin in plugins if isinstance(plugin, dict)) if isinstance(plugins, list) else ()
    return document["name"], tuple(str(kind) for kind in types if kind)


def _put(tree: Tree) -> tuple[Put, ...] | None:
    record = records.read(tree)
    if record is None:
        return None
    return tuple(Put(path, _state(tree, record, path)) for path in record.files)


def _state(tree: Tree, record: records.Record, path: str) -> str:
    found = tree.look(path)
    if found is None:
        return "missing"
    if path.endswith(f"/{PLUGIN}") and not found.mode & stat.S_IXUSR:
        return "not executable"
    return "" if record.knows(path, found.content) else "changed"


def _has_link_file(tree: Tree) -> bool:
    name = os.path.basename(LINK)
    return any(name in tree.names(directory) for directory in _LINK_FILES)


def _rooms(settings: Settings) -> Iterator[Room]:
    scheme, path = check_target(settings.datastore)
    datastore = os.path.dirname(path) if scheme == "sqlite" else settings.state_dir
    for path in dict.fromkeys((settings.run_dir, settings.state_dir, datastore or settings.state_dir)):
        place = path
        while not os.path.isdir(place):
            place = os.path.dirname(place) or "/"
        found = os.statvfs(place)
        yield Room(path, found.f_bavail * found.f_frsize, found.f_favail if found.f_files else -1)


def _permissions(settings: Settings) -> Iterator[Permission]:
    for path in (settings.run_dir, settings.state_dir):
        if os.path.isdir(path):
            found = os.stat(path)
            yield Permission(path, found.st_uid, stat.S_IMODE(found.st_mode))


def _skew(settings: Settings) -> float:
    """How far the datastore's last write lies in the future."""
    scheme, path = check_target(settings.datastore)
    written = [
        os.stat(f"{path}{end}").st_mtime for end in ("", "-wal") if scheme == "sqlite" and os.path.exists(f"{path}{end}")
    ]
    return max([0.0, *(then - time.time() for then in written)])


# processes


def _managers() -> frozenset[str]:
    """They look after the first network namespace alone."""
    own, first = os.stat("/proc/thread-self/ns/net"), _first_namespace()
    if first is not None and (own.st_dev, own.st_ino) != (first.st_dev, first.st_ino):
        return frozenset()
    return frozenset(name for name, path in _MANAGERS.items() if os.path.exists(path))


def _first_namespace() -> os.stat_result | None:
    """That of process 1; None: it is not ours to know."""
    try:
        return os.stat("/proc/1/ns/net")
    except OSError:
        return None


def _descriptors(agent: AgentState | None) -> int:
    for line in (_text(f"/proc/{agent.pid}/limits") or "").splitlines() if agent else ():
        if line.startswith("Max open files"):
            hard = line.split()[4]
            return int(hard) if hard.isdigit() else 1 << 30
    return 0
