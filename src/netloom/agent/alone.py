"""Alone: one agent to a network namespace, wherever its directories are.

Two of them would each take the other's pods for garbage.  An abstract socket name (unix(7)) belongs to one process of a network
namespace and goes with it.  Anybody may take such a name, so who holds it is looked at: only root keeps an agent from starting.
"""

from __future__ import annotations

import errno
import logging
import socket

from netloom import unix_sockets
from netloom.errors import ConfigError

log = logging.getLogger(__name__)

_NAME = "\0netloom-agent"


def hold_namespace() -> socket.socket:
    """To be kept open for life.  Raises ConfigError: another agent is here."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    while not _bound(sock):
        holder = _holder()
        if holder is None:
            continue  # it has just gone
        if holder.is_root:
            sock.close()
            raise ConfigError(
                f"process {holder.pid} is the agent of this network namespace", hint=f"end it first: kill {holder.pid}"
            )
        log.warning("process %d of user %d has taken the name that agents know each other by", *holder)
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


def _holder() -> unix_sockets.Other | None:
    """Process and user that listen under the name; process 0 of nobody where that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.connect(_NAME)
            return unix_sockets.other_end(sock)
        except ConnectionRefusedError:
            return None
        except OSError:
            return unix_sockets.Other(0, -1)
