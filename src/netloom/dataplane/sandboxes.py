"""Sandboxes: whether a network namespace is still held by anything that this machine can show.

A process inside it, or a mount of its nsfs file (how runtimes pin one), in any mount namespace that some process sees.  What
cannot be found out counts as alive.
"""

from __future__ import annotations

import os
import re

from netloom.model.attachments import NetnsId

_INIT = "1"
"""It may be closed even to root, and is in no sandbox; the mounts that it sees are those of others, too."""

_NSFS_MOUNT = re.compile(rb" net:\[(\d+)\] ")


class Sandboxes:
    """One look at /proc; make a new one for a new look."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._complete = True
        seen: set[str] = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            self._look(pid, seen)

    def alive(self, netns: NetnsId) -> bool:
        return not self._complete or netns.inode in self._held or not netns.inode

    def _look(self, pid: str, seen: set[str]) -> None:
        try:
            self._held.add(os.stat(f"/proc/{pid}/ns/net").st_ino)
            mounts = os.readlink(f"/proc/{pid}/ns/mnt")
            if mounts in seen:
                return
            with open(f"/proc/{pid}/mountinfo", "rb") as file:
                self._held.update(int(inode) for inode in _NSFS_MOUNT.findall(file.read()))
            seen.add(mounts)
        except (FileNotFoundError, ProcessLookupError):
            return  # it has ended meanwhile: it holds nothing
        except OSError:
            self._complete &= pid == _INIT
