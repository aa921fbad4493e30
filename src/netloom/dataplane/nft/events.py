"""What others did to nftables, table by table, and who they were.

The kernel multicasts every object of a transaction and then one NEWGEN message with the process that committed it.  What our
own socket writes never arrives: a filter in the kernel compares the sender's port, so the descriptor becomes readable
for foreign changes only.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import NamedTuple

from netloom.dataplane.netlink.connection import SOL_NETLINK
from netloom.dataplane.netlink.events import NETLINK_ADD_MEMBERSHIP
from netloom.dataplane.netlink.wire import attributes, messages, to_text
from netloom.dataplane.nft.nfnetlink import NFGEN, SUBSYSTEM_NFTABLES, open_socket
from netloom.dataplane.nft.objects import TableId

_GROUP_NFTABLES = 7  # NFNLGRP_NFTABLES
_NEW_GENERATION = SUBSYSTEM_NFTABLES << 8 | 15
_GENERATION_PID, _GENERATION_NAME = 2, 3
_DATAGRAM = 1 << 16
_SO_ATTACH_FILTER = 26
_PORT_OFFSET = 12  # struct nlmsghdr: length, type, flags, sequence, port


class Change(NamedTuple):
    """`table` None: so much happened that events were lost, and any table may have changed."""

    table: TableId | None
    process: str

    def concerns(self, table: TableId) -> bool:
        return self.table is None or self.table == table


class Events:
    """Descriptor of the calling thread's namespace.  `own`: the port whose changes are not told."""

    def __init__(self, own: int) -> None:
        self._socket = open_socket()
        self._touched: dict[TableId, None] = {}
        """By a transaction of which not all has arrived: who did it is said last."""
        _pass_over(self._socket, own)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> tuple[Change, ...]:
        """What has arrived, without waiting; each table once for each transaction."""
        found: dict[Change, None] = {}
        while (datagram := self._receive()) is not None:
            if not datagram:
                found[Change(None, "unknown")] = None
                self._touched.clear()
            for kind, _, _, body in messages(datagram):
                attribute = attributes(body, NFGEN.size)
                if kind != _NEW_GENERATION:
                    self._touched[TableId(body[0], to_text(attribute.get(1, b"")))] = None
                    continue
                process = f"{to_text(attribute.get(_GENERATION_NAME, b'?'))}[{_number(attribute.get(_GENERATION_PID, b''))}]"
                found |= dict.fromkeys(Change(table, process) for table in self._touched)
                self._touched.clear()
        return tuple(found)

    def _receive(self) -> bytes | None:
        """A datagram; None if there is no more; empty where some were lost."""
        try:
            return self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise
            return b""


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _pass_over(sock: socket.socket, port: int) -> None:
    """Four instructions (linux/filter.h): load the message's port, as big-endian; equal: keep 0 bytes of it, else all."""
    as_loaded = int.from_bytes(struct.pack("=I", port), "big")
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, _PORT_OFFSET),  # ld [12]
            (0x15, 0, 1, as_loaded),  # jne +1
            (0x06, 0, 0, 0),  # ret 0
            (0x06, 0, 0, 0xFFFFFFFF),  # ret all
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
