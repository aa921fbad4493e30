"""Links; ours are those whose name starts with `loom`, and a bridge that the user named, for as long as it is wanted.

A bridge, VXLAN device or ifb is made here, a pod's veth only by ADD, since its other end belongs into the pod: here it is repaired or
taken away.  A tunnel's device is an ifb where programs of ours do the work (`tunnel.ebpf`: nothing ever reaches the device itself, and
without a program it drops everything), the kernel's `ipip`, or a TUN for a forwarder.  What packets are finished in (`Finisher`) is a
veth without offloads, both ends of it here: one is made with the other.  Making is followed by the same repairs as finding, so there is
one list of what a link must be.  What the kernel cannot change (VNI, port, outer family) makes the device another one: it is taken away
and made again, and what hung on it (addresses, neighbours, FDB entries, routes) is put back by the drivers that come after.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping

from netloom.dataplane import offloads, tun
from netloom.dataplane.batch import Batch, Step
from netloom.dataplane.netlink import (
    Device,
    Netlink,
    NetlinkError,
    VxlanData,
    delete_group,
    delete_link,
    device,
    devices,
    new_bridge,
    new_ifb,
    new_ipip,
    new_veth,
    new_vxlan,
    set_hairpin,
    set_ipip,
    set_link,
    set_not_gullible,
    set_vxlan,
)
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from netloom.model.attachments import PREFIX
from netloom.model.desired import Bridge, Catcher, Engine, Finisher, Ifb, Link, Tunnel, Veth, Vxlan
from netloom.reconcile import Changes, Outcome

_DOOMED = 0x6C6F6F00
"""Group of links that are to go together: each alone takes 20 ms."""
_LEADING = frozenset(("vxlan", "ifb", "ipip", "tun"))
"""Kinds of which a device under the name of a tunnel is ours, from before it was another one."""
_KINDS = {Vxlan: "vxlan", Bridge: "bridge", Veth: "veth", Ifb: "ifb", Catcher: "ipip", Finisher: "veth"}
_LOOPBACK = 1
"""A catcher's parent, by which nothing comes: bound to the uplink it would take what comes to the other device's address, too."""
_ENDS = Mac("02:00:00:00:00:01"), Mac("02:00:00:00:00:02")
"""Of a finisher; nobody asks for them."""
_ENGINES = {Engine.EBPF: "ifb", Engine.KERNEL: "ipip", Engine.FORWARDER: "tun"}


class Links:
    """A reconcile.Driver."""

    name = "links"

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink

    def changes(self, want: Mapping[str, Link]) -> Changes[str, Link]:
        found = devices(self._netlink)
        names = {device.index: device.name for device in found}
        sound = {d.name for d in found if d.name in want and _is_sound(d, want[d.name], names)}
        unwanted = frozenset(d.name for d in found if d.name not in want and d.name.startswith(PREFIX))
        return Changes({name: link for name, link in want.items() if name not in sound}, unwanted)

    def apply(self, changes: Changes[str, Link]) -> Outcome:
        failures = []
        for name, link in sorted(changes.put.items(), key=lambda item: isinstance(item[1], Veth)):  # bridges before their ports
            try:
                self._put(name, link)
            except NetlinkError as e:
                failures.append(DataplaneError(self.name, name, e.reason, errno=e.errno))
            except DataplaneError as e:
                failures.append(e)
        gone = self._delete(changes.delete)
        return Outcome(len(changes.put) - len(failures), gone.deleted, (*failures, *gone.failures))

    def _put(self, name: str, link: Link) -> None:
        have = device(self._netlink, name)
        if have and not _can_become(have, link):
            leads = not isinstance(link, Bridge | Veth | Ifb)
            if not name.startswith(PREFIX) or (leads and have.kind not in _LEADING):
                words = f"is a {have.kind or 'hardware'} interface, and not ours to replace: ip link delete {name}"
                raise DataplaneError(self.name, name, words)
            self._netlink.transact(delete_link(have.index))
            have = None
        have = self._make(name, link) if have is None else self._adapted(have, link)
        if repairs := list(self._repairs(have, link)):
            self._netlink.transact(*repairs)
        if isinstance(link, Finisher):
            _leave_checksums(self.name, name)

    def _make(self, name: str, link: Link) -> Device:
        match link:
            case Veth():
                raise DataplaneError(self.name, name, "is gone, and only ADD makes it", errno=errno.ENODEV)
            case Tunnel(engine=Engine.FORWARDER):
                _make_tun(self.name, name)
            case Tunnel(engine=Engine.KERNEL):
                self._netlink.transact(new_ipip(name, link.local, mtu=link.mtu))
            case Catcher():
                self._netlink.transact(new_ipip(name, None, mtu=link.mtu, parent=_LOOPBACK))
            case Tunnel():
                self._netlink.transact(new_ifb(name, mac=link.mac, mtu=link.mtu))
            case Bridge():
                self._netlink.transact(new_bridge(name, mac=link.mac, mtu=link.mtu))
            case Ifb():
                self._netlink.transact(new_ifb(name, mac=link.mac, mtu=link.mtu))
            case Finisher():
                self._netlink.transact(new_veth(name, link.other, None, mac=_ENDS[0], peer_mac=_ENDS[1], mtu=link.mtu))
            case Vxlan():
                self._netlink.transact(new_vxlan(name, self._vxlan_data(name, link), mac=link.mac, mtu=link.mtu))
        return self._again(name)

    def _adapted(self, have: Device, link: Link) -> Device:
        """What only such a device has.  The kernel may adapt its MTU to a new parent, so it is read again."""
        if isinstance(link, Tunnel) and link.engine is Engine.KERNEL and have.ipip != link.local:
            self._netlink.transact(set_ipip(have.index, link.local))
            return self._again(have.name)
        if not isinstance(link, Vxlan) or have.vxlan == (data := self._vxlan_data(have.name, link)):
            return have
        self._netlink.transact(set_vxlan(have.index, data))
        return self._again(have.name)

    def _again(self, name: str) -> Device:
        found = device(self._netlink, name)
        if found is None:
            raise DataplaneError(self.name, name, "went away while it was set up", errno=errno.ENODEV)
        return found

    def _repairs(self, have: Device, link: Link) -> Iterator[bytes]:
        """Only what differs is set: setting a MAC, even the same one, makes the kernel forget the link's neighbours."""
        if have.generates:
            yield set_link(have.index, generates=False)  # before it is up, when the kernel would generate
        alias = link.alias if isinstance(link, Veth | Ifb | Tunnel) else have.alias
        master = self._index(have.name, link.bridge) if isinstance(link, Veth) and link.bridge else 0
        mac = have.mac if isinstance(link, Tunnel | Catcher | Finisher) else link.mac
        if have.resolves and isinstance(link, Tunnel):
            yield set_link(have.index, resolves=False)
        if (have.mac, have.mtu, have.alias, have.master, have.up) != (mac, link.mtu, alias, master, True):
            yield set_link(
                have.index,
                mac=mac if have.mac != mac else None,
                mtu=link.mtu if have.mtu != link.mtu else None,
                alias=alias if have.alias != alias else None,
                master=master if have.master != master else None,
                up=None if have.up else True,
            )
        if master and not (have.hairpin and have.master == master):
            yield set_hairpin(have.index, True)
        if have.gullible:
            yield set_not_gullible(have.index)

    def _vxlan_data(self, name: str, link: Vxlan) -> VxlanData:
        return VxlanData(link.vni, link.port, link.local, self._index(name, link.parent), learning=False)

    def _index(self, name: str, other: str) -> int:
        found = device(self._netlink, other)
        if found is None:
            raise DataplaneError(self.name, name, f"needs interface {other}, which does not exist", errno=errno.ENODEV)
        return found.index

    def _delete(self, names: Collection[str]) -> Outcome:
        doomed = [found for name in names if (found := device(self._netlink, name))]
        if len(doomed) > 1:
            try:
                self._netlink.transact(*(set_link(d.index, group=_DOOMED) for d in doomed), delete_group(_DOOMED))
                return Outcome(deleted=len(doomed))
            except NetlinkError:
                doomed = [d for d in devices(self._netlink) if d.name in names]  # one by one, to learn which is refused
        batch: Batch[str] = Batch(self.name)
        for found in doomed:
            batch.add(Step.DELETE, found.name, delete_link(found.index))
        return batch.send(self._netlink)


def _leave_checksums(table: str, name: str) -> None:
    try:
        offloads.leave_checksums_to_the_kernel(name)
    except OSError as e:
        raise DataplaneError(table, name, f"its offloads cannot be turned off: {e.strerror}", errno=e.errno or 0) from e


def _make_tun(table: str, name: str) -> None:
    """It stays when its forwarder ends."""
    try:
        tun.create(name)
    except OSError as e:
        raise DataplaneError(table, name, f"no TUN: {e.strerror}", errno=e.errno or 0) from e


def _is_sound(have: Device, link: Link, names: Mapping[int, str]) -> bool:
    if not have.up or have.generates or have.gullible:
        return False
    match link:
        case Tunnel():
            return _is_tunnel(have, link)
        case Catcher():
            return _can_become(have, link) and have.mtu == link.mtu
        case Finisher():
            return _finishes(have, link, names)
    return _as_link(have, names) == link


def _finishes(have: Device, link: Finisher, names: Mapping[int, str]) -> bool:
    if have.kind != "veth" or have.mtu != link.mtu or names.get(have.peer) != link.other or have.peer_nsid >= 0:
        return False
    try:
        return not offloads.does_checksums(have.name)
    except OSError:  # it has just gone
        return False


def _is_tunnel(have: Device, link: Tunnel) -> bool:
    """As far as the device goes: what it carries, and where to, is not the device's."""
    bound = link.engine is not Engine.KERNEL or have.ipip == link.local
    return _can_become(have, link) and bound and have.mtu == link.mtu and not have.resolves and not have.master


def _as_link(have: Device, names: Mapping[int, str]) -> Link | None:
    """The link as it would be wanted; None where nobody could want it so."""
    master = names.get(have.master)
    vxlan = have.vxlan
    if have.kind == "veth" and have.hairpin == bool(master):
        return Veth(have.mac, have.mtu, have.alias, master)
    if have.kind == "ifb" and not master:
        return Ifb(have.mac, have.mtu, have.alias)
    if have.kind == "bridge" and not master:
        return Bridge(have.mac, have.mtu)
    if vxlan and vxlan.local and not vxlan.learning and not master:
        return Vxlan(have.mac, have.mtu, vxlan.vni, vxlan.port, vxlan.local, names.get(vxlan.parent, ""))
    return None


def _can_become(have: Device, link: Link) -> bool:
    """Whether repairs are enough."""
    if isinstance(link, Tunnel):
        return have.kind == _ENGINES[link.engine] and (link.engine is not Engine.EBPF or have.mac == link.mac)
    if isinstance(link, Catcher):
        return have.kind == "ipip" and have.ipip is None and have.ipip_parent == _LOOPBACK
    if have.kind != _KINDS[type(link)] or (isinstance(link, Finisher) and have.peer_nsid >= 0):
        return False
    if not isinstance(link, Vxlan):
        return True
    vxlan = have.vxlan
    same_family = vxlan is not None and vxlan.local is not None and vxlan.local.version == link.local.version
    return same_family and vxlan is not None and (vxlan.vni, vxlan.port) == (link.vni, link.port)
