"""Unix sockets that root alone uses: how one is made, and who is at the other end (unix(7)).

The mode of a socket's file keeps others out while it lies there; who has connected is asked of the kernel all the same.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import NamedTuple

from netloom.errors import ConfigError

_CREDENTIALS = struct.Struct("3i")  # struct ucred


class Other(NamedTuple):
    """Process and user at the other end, at the time of its `connect` or `listen`."""

    pid: int
    uid: int

    @property
    def is_root(self) -> bool:
        return self.uid == 0


def listen(path: str, backlog: int) -> socket.socket:
    """At `path`, mode 0600, in the place of whatever was there; does not block.  Raises ConfigError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o177)
        try:
            made.bind(path)
        finally:
            os.umask(mask)
        made.listen(backlog)
    except OSError as e:
        made.close()
        raise ConfigError(f"cannot listen on {path}: {e}", path="runDir") from e
    return made


def other_end(connection: socket.socket) -> Other:
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Other(pid, uid)
