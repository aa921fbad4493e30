"""Sandboxes: whether a network namespace is still held by anything that this machine can show.

A process inside it, or a mount of its nsfs file (how runtimes pin one), in any mount namespace that some process sees.  What
cannot be found out counts as alive.
"""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from contextlib import suppress

from netloom.dataplane.netns import identify
from netloom.dataplane.peers import mounted, open_held
from netloom.model.attachments import NetnsId

_INIT = "1"
"""It may be closed even to root, and is in no sandbox; the mounts that it sees are those of others, too."""


class Sandboxes:
    """One look at /proc; make a new one for a new look."""

    def __init__(self) -> None:
        self._held: dict[int, list[bytes]] = defaultdict(list)
        self._complete = True
        seen: set[str] = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            self._look(pid, seen)

    def alive(self, netns: NetnsId) -> bool:
        return not self._complete or netns.inode in self._held or not netns.inode

    def open(self, netns: NetnsId) -> int | None:
        """A descriptor, to be closed by the caller; None where nobody who holds it lets us in."""
        for path in self._held.get(netns.inode, ()):
            with suppress(OSError):  # gone meanwhile
                fd = open_held(path)
                if identify(fd) == netns:
                    return fd
                os.close(fd)
        return None

    def _look(self, pid: str, seen: set[str]) -> None:
        try:
            self._held[os.stat(f"/proc/{pid}/ns/net").st_ino].append(f"/proc/{pid}/ns/net".encode())
            mounts = os.readlink(f"/proc/{pid}/ns/mnt")
            if mounts in seen:
                return
            with open(f"/proc/{pid}/mountinfo", "rb") as file:
                for path, inode in mounted(pid, file.read()):
                    self._held[inode].append(path)
            seen.add(mounts)
        except (FileNotFoundError, ProcessLookupError):
            return  # it has ended meanwhile: it holds nothing
        except OSError as e:
            # one that is ending right now: the kernel answers EINVAL for its mounts, and EACCES for its namespaces
            if e.errno != errno.EINVAL and os.path.exists(f"/proc/{pid}"):
                self._complete &= pid == _INIT
