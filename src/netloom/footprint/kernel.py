"""What of ours is in this network namespace besides files, and how it goes.

    programs   of tunnels, on the uplinks, and what is pinned for them
    links      loom*, whoever they belong to; and bridges with our MAC that have no port of anybody else
    routes     protocol 79, in the main table
    rules      our nftables tables; the passages through other firewalls
    checks     of reverse paths, as they were before the installation, where they are still as loose as the agent sets them
    RUN_DIR    sockets, journal, tombstones: by their names, for nobody knows what else a setting has made of that directory

Other sysctls stay as the agent set them: somebody else may rely on forwarding by now.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final

from netloom.calc.pods import BRIDGE_MAC
from netloom.calc.rules import LOOSE
from netloom.cni.protocol import TOMBSTONES
from netloom.config import Settings
from netloom.dataplane.foreign import ForeignFirewalls, legacy
from netloom.dataplane.foreign.gate import OWN_CHAINS
from netloom.dataplane.links import Links
from netloom.dataplane.netlink import Device, Netlink, delete_link, device_names, devices
from netloom.dataplane.netlink.tables import RTM_DELROUTE, get_routes, parse_route
from netloom.dataplane.netlink.wire import attributes, message, to_text
from netloom.dataplane.nft.driver import TABLES
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.dataplane.nft.objects import TableId, delete_table, get_chains
from netloom.dataplane.sysctls import write_sysctls
from netloom.datastore import check_target
from netloom.footprint import record as records
from netloom.model.attachments import PREFIX
from netloom.model.desired import Filter
from netloom.reconcile import Changes, Outcome
from netloom.tunnel.ebpf import Programs, Store

_SWITCHES: Final = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv6/conf/*/accept_ra",
)
"""Of the host and its uplinks: what the agent sets, see `calc.rules`."""
_SYS = "/proc/sys/"
_FAMILY = -1  # beside a chain's attributes
_RULESETS = ("ruleset", "ruleset-ports", "ruleset-networks")
_RUN_NAMES = ("cni.sock", "netloom.sock", "control.sock", "journal", "journal.new", "journal.lock", *_RULESETS)
_FORWARDERS = "loom.*.sock*"
"""Sockets of forwarders; the processes end when their device goes."""
_STATE = ("node.json", "claims.json", "snapshot", "brake.json", "growth.json")
_STATE_NAMES = tuple(f"{name}{suffix}" for name in _STATE for suffix in ("", ".new"))
_DATASTORE_SUFFIXES = ("", "-wal", "-shm", "-journal", "-bell")


def pods() -> list[str]:
    """Whose interfaces are here: `NETWORK CONTAINER INTERFACE ADDRESS...`, as the links' aliases say."""
    with Netlink() as kernel:
        links = devices(kernel)
    return [link.alias.removeprefix("netloom ") for link in links if _is_pods(link)]


def remove(*, dry: bool = False) -> Iterator[tuple[str, str]]:
    """What was done to what.  Raises DataplaneError."""
    with Netlink() as kernel:
        yield from _programs(kernel, dry=dry)
        yield from _links(kernel, dry=dry)
        yield from _routes(kernel, dry=dry)
    yield from _rules(dry=dry)


def switches() -> dict[str, str]:
    """As they are now; those that are not there are left out."""
    found = {}
    for path in (path for pattern in _SWITCHES for path in sorted(glob.glob(f"{_SYS}{pattern}"))):
        with suppress(FileNotFoundError), open(path, encoding="ascii") as file:  # an interface that has just gone
            found[path.removeprefix(_SYS)] = file.read().strip()
    return found


def changed_switches(before: Mapping[str, str]) -> dict[str, str]:
    """Those that are other than they were: name → the value of before."""
    now = switches()
    return {name: value for name, value in before.items() if now.get(name, value) != value}


def put_checks_back(before: Mapping[str, str], *, dry: bool = False) -> Iterator[tuple[str, str]]:
    """`before`: switches as the record has them.  Who has written another value since has it for a reason."""
    now = switches()
    for name, value in changed_switches(before).items():
        if name.endswith("/rp_filter") and now.get(name) == LOOSE:
            if not dry:
                write_sysctls({name: value})
            yield f"sysctl/{name}", f"{value} again"


def remove_run_dir(settings: Settings, *, dry: bool = False) -> Iterator[tuple[str, str]]:
    sockets = (os.path.basename(path) for path in glob.glob(f"{glob.escape(settings.run_dir)}/{_FORWARDERS}"))
    yield from _remove_files(settings.run_dir, (*_RUN_NAMES, *sockets), (TOMBSTONES,), dry=dry)


def purge(settings: Settings, *, dry: bool = False) -> Iterator[tuple[str, str]]:
    """What survives a reboot: identity, claims, what is remembered, the datastore."""
    places = {settings.state_dir: [*_STATE_NAMES]}
    scheme, path = check_target(settings.datastore)
    if scheme == "sqlite":
        name = os.path.basename(path)
        places.setdefault(os.path.dirname(path), []).extend(name + suffix for suffix in _DATASTORE_SUFFIXES)
    for directory, names in places.items():
        yield from _remove_files(directory, names, (), dry=dry)


def _is_pods(link: Device) -> bool:
    return link.kind == "veth" and link.name.startswith(PREFIX) and link.alias.startswith("netloom ")


def _programs(kernel: Netlink, *, dry: bool) -> Iterator[tuple[str, str]]:
    programs = Programs(kernel, Store())
    changes = programs.changes({})
    if changes and not dry:
        _require(programs.apply(changes))
    yield from ((f"program/{device}", "deleted") for device in sorted(changes.delete))


def _links(kernel: Netlink, *, dry: bool) -> Iterator[tuple[str, str]]:
    links = devices(kernel)
    ours = [link.name for link in links if link.name.startswith(PREFIX)]
    masters = {link.master for link in links if not link.name.startswith(PREFIX)}
    bridges = [
        link
        for link in links
        if link.kind == "bridge" and link.mac == BRIDGE_MAC and link.index not in masters and link.name not in ours
    ]
    if ours and not dry:
        _require(Links(kernel).apply(Changes({}, frozenset(ours))))
    for bridge in bridges if not dry else ():
        kernel.transact(delete_link(bridge.index))
    for name in (*ours, *(bridge.name for bridge in bridges)):
        yield f"link/{name}", "deleted"


def _routes(kernel: Netlink, *, dry: bool) -> Iterator[tuple[str, str]]:
    names = device_names(kernel)
    for version in (4, 6):
        for body in kernel.dump(get_routes(version)):
            if not dry:
                kernel.transact(message(RTM_DELROUTE, 0, body))
            yield f"route/{parse_route(body, names).key.prefix}", "deleted"


def _rules(*, dry: bool) -> Iterator[tuple[str, str]]:
    nft, firewalls = Nfnetlink(), ForeignFirewalls()
    try:
        chains = [attributes(body) | {_FAMILY: bytes((family,))} for _, family, body in nft.dump(get_chains())]
        present = {_table(chain) for chain in chains}
        standing = [table for table in TABLES if table in present]
        if standing and not dry:
            nft.transact([delete_table(table) for table in standing])
        yield from ((f"nft/{table}", "deleted") for table in standing)
        passages = [f"nft/{_table(chain)} {name}" for chain in chains if (name := to_text(chain[3])) in OWN_CHAINS]
        passages += [
            f"{legacy.PROGRAMS[version]}/{name}"
            for version, lines in legacy.listings()
            for name in OWN_CHAINS
            if f"-N {name}" in lines
        ]
        if passages and not dry:
            for outcome in (firewalls.reconcile(Filter()), firewalls.reconcile_legacy(Filter())):
                _require(outcome)
        yield from ((passage, "deleted") for passage in passages)
    finally:
        firewalls.close()
        nft.close()


def _table(chain: Mapping[int, bytes]) -> TableId:
    return TableId(chain[_FAMILY][0], to_text(chain[1]))


def _require(outcome: Outcome) -> None:
    """The first refusal is raised: what was not taken away is taken up again by the next call."""
    for failure in outcome.failures:
        raise failure


def _remove_files(directory: str, names: Iterable[str], folders: Iterable[str], *, dry: bool) -> Iterator[tuple[str, str]]:
    """Those of these names, and the directory if nothing else is in it."""
    if os.path.islink(directory) or not os.path.isdir(directory):
        return
    left = {name for name in os.listdir(directory) if f"{directory}/{name}" != records.PATH}  # which goes by itself, before
    for name in sorted(left.intersection((*names, *folders))):
        path = f"{directory}/{name}"
        is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        if is_folder != (name in folders):
            continue  # somebody else's, under a name of ours
        if not dry:
            (shutil.rmtree if is_folder else os.unlink)(path)
        left.remove(name)
        yield path, "deleted"
    if not left:
        if not dry:
            os.rmdir(directory)
        yield directory, "deleted"
