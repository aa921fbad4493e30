"""Alone: one agent to a network namespace, wherever its directories are.

Two of them would each take the other's pods for garbage.  An abstract socket name (unix(7)) belongs to one process of a network
namespace and goes with it.  Anybody may take such a name, so who holds it is looked at: only root keeps an agent from starting.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct

from netloom.errors import ConfigError

log = logging.getLogger(__name__)

_NAME = "\0netloom-agent"
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def hold_namespace() -> socket.socket:
    """To be kept open for life.  Raises ConfigError: another agent is here."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    while not _bound(sock):
        holder = _holder()
        if holder is None:
            continue  # it has just gone
        pid, uid = holder
        if uid == 0:
            sock.close()
            raise ConfigError(f"process {pid} is the agent of this network namespace", hint=f"end it first: kill {pid}")
        log.warning("process %d of user %d has taken the name that agents know each other by", pid, uid)
        break
    return sock


def _bound(sock: socket.socket) -> bool:
    try:
        sock.bind(_NAME)
        sock.listen()
    except OSError as e:
        if e.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _holder() -> tuple[int, int] | None:
    """Process and user that listen under the name; process 0 of nobody where that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.connect(_NAME)
            pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        except ConnectionRefusedError:
            return None
        except OSError:
            return 0, -1
    return pid, uid
