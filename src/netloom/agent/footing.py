"""Footing: the files of RUN_DIR that clients, a second agent and a later start look for are still those of this agent.

Who empties that directory takes the ground from under a running agent: nobody reaches its socket any more, its lock holds nobody
back, its journal has no name.  The way back is a start, which makes all of it anew from the kernel; so it ends, and says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from netloom.errors import ConfigError


class Footing:
    """`fixed`: files that stay the same as long as the agent runs; `moving`: files that it replaces itself."""

    def __init__(self, fixed: Iterable[str], moving: Iterable[str]) -> None:
        self._inodes: Mapping[str, int | None] = {path: _inode(path) for path in fixed}
        self._moving = tuple(moving)

    def require(self) -> None:
        """Raises ConfigError."""
        gone = [path for path in self._moving if _inode(path) is None]
        gone += [path for path, inode in self._inodes.items() if _inode(path) != inode]
        if gone:
            hint = "start the agent again, and leave this directory to it"
            raise ConfigError("was removed or replaced while the agent ran", where=gone[0], hint=hint)


def _inode(path: str) -> int | None:
    try:
        return os.lstat(path).st_ino
    except OSError:
        return None
