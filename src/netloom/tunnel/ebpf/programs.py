"""Programs: a driver that has `sending` on each tunnel's device and `arriving` on each of its uplinks, and nowhere else.  For datagrams
there is `early` besides, where the tunnel wants it, the uplink's driver can run it and nobody else's program is there; `arriving` does
without.

Where packets have to be finished first (`model.desired.Finisher`), `sending` is where they come out of that, and on the device stands
`aside`, which sends them there.

What is attached is compared by instructions and maps: a new address, port or edition makes another program, which takes the place of
the old one between two packets.  An uplink that is not there is passed over; its coming calls for a pass.

Programs of a tunnel that is not wanted any more are left on the uplinks (with the device goes what hung there).  They are looked for
on every interface once, and from then on where this process has put them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

from netloom.dataplane.bpf import (
    BpfError,
    Loaded,
    ProgramInfo,
    Way,
    attach,
    attach_early,
    attached,
    detach,
    detach_early,
    early,
    load,
    program_info,
)
from netloom.dataplane.netlink import Netlink, NetlinkError, device_names
from netloom.errors import DataplaneError
from netloom.model.attachments import PREFIX
from netloom.model.desired import Tunnel, finishers
from netloom.reconcile import Changes, Outcome
from netloom.tunnel.ebpf.arriving import arriving
from netloom.tunnel.ebpf.early import early as unpacking
from netloom.tunnel.ebpf.sending import aside, sending
from netloom.tunnel.ebpf.store import Store
from netloom.tunnel.ebpf.wire import Wire

_OUT, _IN, _EARLY, _ASIDE = ".out", ".in", ".xdp", ".hop"


@dataclass(frozen=True, slots=True)
class _Set:
    """Loaded for one wire and one set of maps.  `early`: of UDP alone.  `aside`: where packets are finished first, by interface
    `finisher`."""

    wire: Wire
    maps: tuple[int, ...]
    finisher: int
    out: Loaded
    into: Loaded
    early: Loaded | None
    aside: Loaded | None

    def close(self) -> None:
        for program in (self.out, self.into, self.early, self.aside):
            if program is not None:
                program.close()


@dataclass(frozen=True, slots=True)
class _Uplink:
    """What stands on an interface: ours for what arrives, and whoever's before that."""

    arriving: list[ProgramInfo]
    early: ProgramInfo | None

    @property
    def devices(self) -> set[str]:
        """Of the tunnels whose programs these are."""
        found = {info.name.removesuffix(_IN) for info in self.arriving}
        if self.early is not None and _is_ours(self.early, _EARLY):
            found.add(self.early.name.removesuffix(_EARLY))
        return found


class Programs:
    """A reconcile.Driver.  The socket is of the calling thread's namespace."""

    name = "programs"

    def __init__(self, netlink: Netlink, store: Store) -> None:
        self._netlink, self._store = netlink, store
        self._sets: dict[str, _Set] = {}
        self._places: set[int] | None = None
        """Interfaces that may have programs of ours for what arrives; None: any may."""
        self._unable: set[tuple[int, bytes]] = set()
        """Interfaces whose drivers would not run a program, and its tag: they are not asked again by this process."""

    def changes(self, want: Mapping[str, Tunnel]) -> Changes[str, Tunnel]:
        if not want and self._places is not None and not self._places:
            return Changes()
        names = device_names(self._netlink)
        found = self._found(names, want)
        put = {device: tunnel for device, tunnel in want.items() if not self._is_sound(device, tunnel, names, found)}
        stale = {device for uplink in found.values() for device in uplink.devices} | {*self._store.devices()}
        return Changes(put, frozenset(stale - want.keys()))

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
        for programs in self._sets.values():
            programs.close()
        self._sets.clear()

    def _found(self, names: Mapping[int, str], want: Mapping[str, Tunnel]) -> dict[int, _Uplink]:
        everywhere = self._places is None
        wanted = {uplink for tunnel in want.values() for uplink in tunnel.uplinks}
        places = {i for i, name in names.items() if name in wanted or (everywhere and not name.startswith(PREFIX))}
        try:
            found = {index: self._uplink(index) for index in places | (self._places or set()) & names.keys()}
        except BpfError:
            if want:
                raise
            found = {}  # who may not ask has put nothing there
        self._places = {index for index, uplink in found.items() if uplink.devices}
        return found

    def _uplink(self, index: int) -> _Uplink:
        arriving = [info for info in attached(self._netlink, index, Way.ARRIVING) if _is_ours(info, _IN)]
        return _Uplink(arriving, early(self._netlink, index))

    def _is_sound(self, device: str, tunnel: Tunnel, names: Mapping[int, str], found: Mapping[int, _Uplink]) -> bool:
        index = _index(names, device)
        maps = self._store.find(device)
        if not index or maps is None or (tunnel.finished and not all(_index(names, end) for end in finishers(device))):
            return False
        programs = self._set(device, tunnel, index, names)
        leaving = [info for info in attached(self._netlink, index, Way.LEAVING) if _is_ours(info, (_OUT, _ASIDE))]
        if not _are(leaving, programs.aside or programs.out):
            return False
        if tunnel.finished and not _are(
            attached(self._netlink, _index(names, finishers(device)[1]), Way.ARRIVING), programs.out
        ):
            return False
        return all(
            self._is_right(device, place, uplink, programs if names.get(place) in tunnel.uplinks else None)
            for place, uplink in found.items()
        )

    def _is_right(self, device: str, index: int, uplink: _Uplink, programs: _Set | None) -> bool:
        """`programs` None: nothing of this tunnel is to be there."""
        if programs is None:
            return device not in uplink.devices
        if not _are([info for info in uplink.arriving if info.name == programs.into.name], programs.into):
            return False
        have, want = uplink.early, programs.early
        if want is None:
            return have is None or have.name != device + _EARLY
        if (index, program_info(want.fd).tag) in self._unable:
            return True
        return have is not None and (have.name != want.name or have.is_same(program_info(want.fd)))

    def _put(self, device: str, tunnel: Tunnel, names: Mapping[int, str]) -> None:
        at = {name: index for index, name in names.items()}
        for name in (device, *(finishers(device) if tunnel.finished else ())):
            if name not in at:
                raise DataplaneError(self.name, device, f"needs interface {name}, which does not exist", errno=errno.ENODEV)
        programs = self._set(device, tunnel, at[device], names)
        if programs.aside is not None:
            attach(self._netlink, at[finishers(device)[1]], Way.ARRIVING, programs.out)
        here = programs.aside or programs.out
        attach(self._netlink, at[device], Way.LEAVING, here)
        for name in {device + _OUT, device + _ASIDE} - {here.name}:
            detach(self._netlink, at[device], Way.LEAVING, name)
        uplinks = {at[name] for name in tunnel.uplinks if name in at}
        self._places = (self._places or set()) | uplinks
        for index in uplinks:
            attach(self._netlink, index, Way.ARRIVING, programs.into)
            if programs.early is None:
                detach_early(self._netlink, index, device + _EARLY)
            elif not attach_early(self._netlink, index, programs.early):
                detach_early(self._netlink, index, device + _EARLY)  # one from before might leave another mark
                self._unable.add((index, program_info(programs.early.fd).tag))
        for index in self._places & names.keys() - uplinks:
            self._leave(device, index)

    def _delete(self, device: str, names: Mapping[int, str]) -> None:
        for index in (self._places or set()) & names.keys():
            self._leave(device, index)
        if device in self._sets:
            self._sets.pop(device).close()
        self._store.drop(device)

    def _leave(self, device: str, index: int) -> None:
        """First what unpacks: what it has unpacked is still known to the other.  Then the driver may run another tunnel's."""
        self._unable = {(place, tag) for place, tag in self._unable if place != index}
        detach_early(self._netlink, index, device + _EARLY)
        detach(self._netlink, index, Way.ARRIVING, device + _IN)

    def _set(self, device: str, tunnel: Tunnel, index: int, names: Mapping[int, str]) -> _Set:
        """Loading takes half a millisecond, so it is done once."""
        wire = Wire(index, tunnel.mac, tunnel.carrier, tunnel.local, tunnel.port, tunnel.also)
        maps = self._store.make(device)
        numbers = tuple(held.id for held in maps.values())
        have, finisher = self._sets.get(device), _index(names, finishers(device)[0]) if tunnel.finished else 0
        first = None
        unpacks = bool(wire.port) and tunnel.early
        if have and (have.wire, have.maps, have.finisher, bool(have.early)) == (wire, numbers, finisher, unpacks):
            return have
        with ExitStack() as loaded:
            out = loaded.enter_context(load(sending(device + _OUT, wire), maps))
            into = loaded.enter_context(load(arriving(device + _IN, wire, recent=is_recent()), maps))
            if unpacks:
                first = loaded.enter_context(load(unpacking(device + _EARLY, wire), maps))
            hop = loaded.enter_context(load(aside(device + _ASIDE, finisher))) if finisher else None
            loaded.pop_all()
        if have is not None:
            have.close()
        self._sets[device] = _Set(wire, numbers, finisher, out, into, first, hop)
        return self._sets[device]


def _index(names: Mapping[int, str], name: str) -> int:
    """0: there is none."""
    return next((index for index, each in names.items() if each == name), 0)


def _is_ours(info: ProgramInfo, ending: str | tuple[str, ...]) -> bool:
    return info.name.startswith(PREFIX) and info.name.endswith(ending)


def _are(found: Sequence[ProgramInfo], program: Loaded) -> bool:
    """It is there, once, and nothing else of that name."""
    return len(found) == 1 and found[0].is_same(program_info(program.fd))


@cache
def is_recent() -> bool:
    """BPF_F_ADJ_ROOM_DECAP_L3_* came with Linux 6.3."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(c for c in minor if c.isdigit()) or 0)) >= (6, 3)
