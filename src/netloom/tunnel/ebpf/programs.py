"""Programs: a driver that has `sending` on each tunnel's device and `arriving` on each of its uplinks, and nowhere else.

What is attached is compared by instructions and maps: a new address, port or edition makes another program, which takes the place of
the old one between two packets.  An uplink that is not there is passed over; its coming calls for a pass.

Programs of a tunnel that is not wanted any more are left on the uplinks (with the device goes what hung there).  They are looked for
on every interface once, and from then on where this process has put them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from netloom.dataplane.bpf import BpfError, Loaded, ProgramInfo, Way, attach, attached, detach, load, program_info
from netloom.dataplane.netlink import Netlink, NetlinkError, device_names
from netloom.errors import DataplaneError
from netloom.model.attachments import PREFIX
from netloom.model.desired import Tunnel
from netloom.reconcile import Changes, Outcome
from netloom.tunnel.ebpf.arriving import arriving
from netloom.tunnel.ebpf.sending import sending
from netloom.tunnel.ebpf.store import Store
from netloom.tunnel.ebpf.wire import Wire

_OUT, _IN = ".out", ".in"


@dataclass(frozen=True, slots=True)
class _Pair:
    """Loaded for one wire and one set of maps."""

    wire: Wire
    maps: tuple[int, ...]
    out: Loaded
    into: Loaded
    out_info: ProgramInfo
    into_info: ProgramInfo

    def close(self) -> None:
        self.out.close()
        self.into.close()


class Programs:
    """A reconcile.Driver.  The socket is of the calling thread's namespace."""

    name = "programs"

    def __init__(self, netlink: Netlink, store: Store) -> None:
        self._netlink, self._store = netlink, store
        self._pairs: dict[str, _Pair] = {}
        self._places: set[int] | None = None
        """Interfaces that may have programs of ours for what arrives; None: any may."""

    def changes(self, want: Mapping[str, Tunnel]) -> Changes[str, Tunnel]:
        if not want and self._places is not None and not self._places:
            return Changes()
        names = device_names(self._netlink)
        found = self._found(names, want)
        put = {device: tunnel for device, tunnel in want.items() if not self._is_sound(device, tunnel, names, found)}
        stale = {info.name.removesuffix(_IN) for infos in found.values() for info in infos} - want.keys()
        return Changes(put, frozenset(stale | (set(self._store.devices()) - want.keys())))

    def apply(self, changes: Changes[str, Tunnel]) -> Outcome:
        names, put, deleted = device_names(self._netlink), 0, 0
        failures = []
        for device, tunnel in changes.put.items():
            try:
                self._put(device, tunnel, names)
                put += 1
            except (BpfError, NetlinkError) as e:
                failures.append(DataplaneError(self.name, device, e.reason, errno=e.errno))
            except DataplaneError as e:
                failures.append(e)
        for device in changes.delete:
            try:
                self._delete(device, names)
                deleted += 1
            except (BpfError, NetlinkError) as e:
                failures.append(DataplaneError(self.name, device, e.reason, errno=e.errno))
        return Outcome(put, deleted, tuple(failures))

    def close(self) -> None:
        for pair in self._pairs.values():
            pair.close()
        self._pairs.clear()

    def _found(self, names: Mapping[int, str], want: Mapping[str, Tunnel]) -> dict[int, list[ProgramInfo]]:
        """Ours for what arrives, by interface."""
        everywhere = self._places is None
        wanted = {uplink for tunnel in want.values() for uplink in tunnel.uplinks}
        places = {i for i, name in names.items() if name in wanted or (everywhere and not name.startswith(PREFIX))}
        try:
            found = {index: self._ours(index) for index in places | (self._places or set()) & names.keys()}
        except BpfError:
            if want:
                raise
            found = {}  # who may not ask has put nothing there
        self._places = {index for index, infos in found.items() if infos}
        return found

    def _ours(self, index: int) -> list[ProgramInfo]:
        return [i for i in attached(self._netlink, index, Way.ARRIVING) if i.name.startswith(PREFIX) and i.name.endswith(_IN)]

    def _is_sound(self, device: str, tunnel: Tunnel, names: Mapping[int, str], found: Mapping[int, list[ProgramInfo]]) -> bool:
        index = next((i for i, name in names.items() if name == device), 0)
        maps = self._store.find(device)
        if not index or maps is None:
            return False
        pair = self._pair(device, tunnel, index)
        leaving = [info for info in attached(self._netlink, index, Way.LEAVING) if info.name == pair.out.name]
        if len(leaving) != 1 or not leaving[0].is_same(pair.out_info):
            return False
        for place, infos in found.items():
            here = [info for info in infos if info.name == pair.into.name]
            if names.get(place) not in tunnel.uplinks:
                if here:
                    return False
            elif len(here) != 1 or not here[0].is_same(pair.into_info):
                return False
        return True

    def _put(self, device: str, tunnel: Tunnel, names: Mapping[int, str]) -> None:
        at = {name: index for index, name in names.items()}
        if device not in at:
            raise DataplaneError(self.name, device, "needs its interface, which does not exist", errno=errno.ENODEV)
        self._store.make(device)
        pair = self._pair(device, tunnel, at[device])
        attach(self._netlink, at[device], Way.LEAVING, pair.out)
        uplinks = {at[name] for name in tunnel.uplinks if name in at}
        self._places = (self._places or set()) | uplinks
        for index in uplinks:
            attach(self._netlink, index, Way.ARRIVING, pair.into)
        for index in self._places & names.keys() - uplinks:
            detach(self._netlink, index, Way.ARRIVING, pair.into.name)

    def _delete(self, device: str, names: Mapping[int, str]) -> None:
        for index in (self._places or set()) & names.keys():
            detach(self._netlink, index, Way.ARRIVING, device + _IN)
        if device in self._pairs:
            self._pairs.pop(device).close()
        self._store.drop(device)

    def _pair(self, device: str, tunnel: Tunnel, index: int) -> _Pair:
        """Loading takes half a millisecond, so it is done once."""
        wire = Wire(index, tunnel.mac, tunnel.carrier, tunnel.local, tunnel.port)
        maps = self._store.make(device)
        numbers = tuple(held.id for held in maps.values())
        have = self._pairs.get(device)
        if have is not None and (have.wire, have.maps) == (wire, numbers):
            return have
        out = load(sending(device + _OUT, wire), maps)
        try:
            into = load(arriving(device + _IN, wire, tells_family=_tells_family()), maps)
        except BpfError:
            out.close()
            raise
        if have is not None:
            have.close()
        pair = _Pair(wire, numbers, out, into, program_info(out.fd), program_info(into.fd))
        self._pairs[device] = pair
        return pair


@cache
def _tells_family() -> bool:
    """BPF_F_ADJ_ROOM_DECAP_L3_* came with Linux 6.3."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()) or 0)) >= (6, 3)
