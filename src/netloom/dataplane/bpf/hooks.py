"""Where classifiers hang: on an interface, for packets that arrive on it, or that leave by it.

Since Linux 6.6 by TCX: programs in a row, without a qdisc.  Before that as filters of a qdisc `clsact`.  Both stay when the process
ends, and in both a program takes the place of an older one of its name between two packets.

Before both, in the driver, one program may run on what arrives (XDP): `attach_early`.  Not every driver can, and some take their link
down for it; what another has put there is left alone.

TCX waits for RCU, 10 to 20 ms each time; a filter does not.  So what is attached for every pod goes by `clsact` (`by=CLSACT`).
A TCX program runs before any filter.
"""

from __future__ import annotations

import enum
import errno
import os
import struct
from collections.abc import Sequence
from itertools import count

from netloom.dataplane.bpf.programs import Loaded, ProgramInfo, info_of, open_program, program_info
from netloom.dataplane.bpf.system import BpfError, Command, address, attributes, bpf, buffer, call
from netloom.dataplane.netlink import Netlink, NetlinkError, get_link_at, parse_link, set_xdp
from netloom.dataplane.netlink.qdiscs import (
    CLASSIFIER_PREFERENCE,
    Classifier,
    delete_classifier,
    get_filters,
    new_clsact,
    parse_classifiers,
    put_classifier,
)

_REPLACE = 1 << 2  # BPF_F_REPLACE
_LOOPBACK = 1
_UNABLE = frozenset((errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.EEXIST, errno.ENOMEM, errno.ENOSPC))
"""What drivers say that cannot run a program, or not now: their MTU or their offloads are in the way, or they lack queues."""
_MOST = 64


class Way(enum.IntEnum):
    """Which packets: BPF_TCX_INGRESS, BPF_TCX_EGRESS."""

    ARRIVING = 46
    LEAVING = 47


class Means(enum.Enum):
    TCX = "tcx"
    CLSACT = "clsact"


def best() -> Means:
    """What this kernel has."""
    try:
        _query(_LOOPBACK, Way.ARRIVING)
    except BpfError as e:
        if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return Means.CLSACT
    return Means.TCX


def attach(netlink: Netlink, index: int, way: Way, program: Loaded, *, by: Means | None = None) -> None:
    """In the calling thread's namespace, which is the socket's, too.  Takes the place of a program with the same name, or is it."""
    if (by or best()) is Means.CLSACT:
        _attach_filter(netlink, index, way, program)
        return
    older = next((have for have in _query(index, way) if have.name == program.name), None)
    if older is None:
        bpf(Command.PROG_ATTACH, "IIII", index, program.fd, way, 0, what=f"program {program.name} on interface {index}")
        return
    if older.number == program_info(program.fd).number:
        return
    fd = open_program(older.number)
    try:
        values = (index, program.fd, way, _REPLACE, fd)
        bpf(Command.PROG_ATTACH, "IIIII", *values, what=f"program {program.name} on interface {index}")
    finally:
        os.close(fd)


def attach_early(netlink: Netlink, index: int, program: Loaded) -> bool:
    """Whether the driver runs it now.  It takes the place of one with the same name; False where there is another's, or it cannot."""
    have = early(netlink, index)
    if have is not None and have.number == program_info(program.fd).number:
        return True
    if have is not None and have.name != program.name:
        return False
    older = open_program(have.number) if have else -1
    try:
        netlink.transact(set_xdp(index, program.fd, older))
    except NetlinkError as e:
        if e.errno not in _UNABLE:
            raise
        return False
    finally:
        if have:
            os.close(older)
    return True


def detach_early(netlink: Netlink, index: int, name: str) -> None:
    have = early(netlink, index)
    if have is not None and have.name == name:
        older = open_program(have.number)
        try:
            netlink.transact(set_xdp(index, -1, older))
        finally:
            os.close(older)


def early(netlink: Netlink, index: int) -> ProgramInfo | None:
    """What runs there before anything else, whoever's it is."""
    number = parse_link(netlink.ask(get_link_at(index))).xdp
    return info_of(number) if number else None


def attached(netlink: Netlink, index: int, way: Way) -> Sequence[ProgramInfo]:
    """All programs there, by either means, in the order in which a packet meets them.  Others' are among them."""
    found = list(_query(index, way)) if best() is Means.TCX else []
    return [*found, *filter(None, (info_of(each.program) for each in _filters(netlink, index, way)))]


def detach(netlink: Netlink, index: int, way: Way, name: str) -> None:
    """Every program of that name, by whichever means it is there."""
    for have in _query(index, way) if best() is Means.TCX else ():
        if have.name == name:
            fd = open_program(have.number)
            try:
                bpf(Command.PROG_DETACH, "IIII", index, fd, way, 0, what=f"program {have.name} on interface {index}")
            finally:
                os.close(fd)
    for each in _filters(netlink, index, way):
        if each.name == name:
            netlink.transact(delete_classifier(index, each.preference, leaving=way is Way.LEAVING))


def _attach_filter(netlink: Netlink, index: int, way: Way, program: Loaded) -> None:
    """Each name has a preference of its own, so that one may replace its like and leave others' alone."""
    try:
        netlink.transact(new_clsact(index))
    except NetlinkError as e:
        if e.errno != errno.EEXIST:
            raise
    there = _filters(netlink, index, way)
    taken = {each.preference for each in there}
    own = next((each.preference for each in there if each.name == program.name), None)
    preference = own or next(free for free in count(CLASSIFIER_PREFERENCE) if free not in taken)
    netlink.transact(put_classifier(index, program.fd, program.name, preference, leaving=way is Way.LEAVING))


def _filters(netlink: Netlink, index: int, way: Way) -> Sequence[Classifier]:
    return parse_classifiers(netlink.dump(get_filters(index, leaving=way is Way.LEAVING)))


def _query(index: int, way: Way) -> Sequence[ProgramInfo]:
    numbers = buffer(4 * _MOST)
    asked = attributes("IIIIQI", index, way, 0, 0, address(numbers), _MOST)
    call(Command.PROG_QUERY, asked, what=f"interface {index}")
    (found,) = struct.unpack_from("=I", asked, 24)
    return [info for number in struct.unpack_from(f"={found}I", numbers) if (info := info_of(number))]
