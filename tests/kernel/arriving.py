"""Whether something arrives, in a kernel that has much else to do.

A packet goes through all namespaces of a machine while its sender is still in the system call, unless the kernel puts it off: then it
waits in a backlog.  So who has waited for a moment has waited long enough as soon as there is no backlog.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.waiting import eventually

_LENGTH = 11  # of a processor's backlog: its column in /proc/net/softnet_stat


def received(receiver: socket.socket, patience: float = 0.1) -> bytes:
    """The next datagram; empty where none comes.  Raises OSError: it was refused."""
    for seconds in (patience, 0.01):
        receiver.settimeout(seconds)
        try:
            return receiver.recv(65535)
        except TimeoutError:
            eventually(_nothing_is_put_off)
    return b""


def _nothing_is_put_off() -> bool:
    rows = Path("/proc/net/softnet_stat").read_text().splitlines()
    return not any(int(row.split()[_LENGTH], 16) for row in rows)
