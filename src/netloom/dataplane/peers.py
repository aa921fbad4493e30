"""Peers: which namespace the other end of a veth is in, found out when nothing else tells it any more.

The kernel gives a link the number (nsid) by which the peer's namespace is known in ours, and says of any namespace that is held
open which number it has.  So every namespace that a process or a mount holds is opened, and asked for its number.

Slow (all of /proc), and for a rare day.  Paths are other people's: one is opened for real only when it is known to be a namespace.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Collection, Iterator

from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, NetlinkError
from netloom.dataplane.netlink.wire import attributes, message, u32

_GET_NSID = 90  # linux/rtnetlink.h: RTM_GETNSID
_GENERAL = struct.pack("=Bxxx", 0)  # struct rtgenmsg
_NSID, _FD = 1, 3  # linux/net_namespace.h: NETNSA_NSID, NETNSA_FD
_NUMBER = struct.Struct("=i")
_NSFS_MOUNT = re.compile(rb"^\S+ \S+ \S+ net:\[(\d+)\] (\S+) ", re.MULTILINE)
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def find_namespaces(kernel: Netlink, nsids: Collection[int]) -> dict[int, int]:
    """Descriptors by nsid, to be closed by the caller, of those that can be found."""
    found: dict[int, int] = {}
    for fd in _held_namespaces():
        nsid = _nsid_of(kernel, fd)
        if nsid in nsids and nsid not in found:
            found[nsid] = fd
        else:
            os.close(fd)
    return found


def _nsid_of(kernel: Netlink, fd: int) -> int:
    """-1 where ours has no number for it."""
    try:
        answer = kernel.ask(message(_GET_NSID, 0, _GENERAL + u32(_FD, fd)))
    except NetlinkError:
        return -1
    return int(_NUMBER.unpack(attributes(answer, len(_GENERAL)).get(_NSID, _NUMBER.pack(-1)))[0])


def _held_namespaces() -> Iterator[int]:
    """Each once, by a descriptor."""
    seen: set[int] = set()
    tables: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for path, inode in _paths(pid, tables):
            if inode in seen:
                continue
            try:
                fd = open_held(path)
            except OSError:
                continue  # gone meanwhile, or not what it was
            seen.add(inode)
            yield fd


def _paths(pid: str, tables: set[str]) -> Iterator[tuple[bytes, int]]:
    """Where a process holds namespaces, with their inodes: its own, and those mounted where it can see them.  Processes that share
    a table of mounts (collected in `tables`) need to be asked once."""
    try:
        yield f"/proc/{pid}/ns/net".encode(), os.stat(f"/proc/{pid}/ns/net").st_ino
        table = os.readlink(f"/proc/{pid}/ns/mnt")
        if table in tables:
            return
        with open(f"/proc/{pid}/mountinfo", "rb") as file:
            content = file.read()
    except OSError:
        return  # it has ended, or is none of our business
    tables.add(table)
    yield from mounted(pid, content)


def mounted(pid: str, mountinfo: bytes) -> Iterator[tuple[bytes, int]]:
    """Namespaces that are mounted where the process sees them, and their inodes."""
    for inode, place in _NSFS_MOUNT.findall(mountinfo):
        yield f"/proc/{pid}/root".encode() + _ESCAPED.sub(lambda m: bytes((int(m[1], 8),)), place), int(inode)


def open_held(path: bytes) -> int:
    """A descriptor of the namespace that a process or a mount holds; OSError.  First without effect on whatever is there, then for real."""
    look = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not netns.is_nsfs(look):
            raise OSError(f"{path!r} is no namespace")
        return netns.open_netns(f"/proc/self/fd/{look}")
    finally:
        os.close(look)
