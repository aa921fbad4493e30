"""The socket: one batch is one transaction, and what the kernel refuses is named by the message that caused it.

Netfilter's netlink carries one more header after netlink's own: family, version, resource.  Messages between BATCH_BEGIN and
BATCH_END take effect together or not at all.  The kernel works a batch off inside `send`, so all answers wait in the
receive buffer when it returns and nothing here ever waits.

Three limits shape the code: a batch has to be one datagram, so the send buffer is made large by force; a datagram of more than
1024 pieces is refused, so the pieces are joined; and one attribute holds at most 64 KiB, so elements come in chunks
(`objects.add_elements`).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from netloom.dataplane.netlink.connection import NETLINK_CAP_ACK, SO_RCVBUFFORCE, SO_SNDBUFFORCE, SOL_NETLINK
from netloom.dataplane.netlink.wire import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    messages,
)
from netloom.errors import DataplaneError

NETLINK_NETFILTER = 12  # linux/netlink.h
# linux/netfilter/nfnetlink.h
SUBSYSTEM_CONNTRACK, SUBSYSTEM_NFTABLES = 1, 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
NFGEN = struct.Struct(">BBH")  # family, version 0, resource
_ERRNO = struct.Struct("=i")
_HEADERS = HEADER.size + NFGEN.size

_BUFFER = 64 << 20
"""Bytes: a batch of half a million set elements.  Memory is taken only while it is used."""
_DATAGRAM = 1 << 16
_DUMP_ATTEMPTS = 10


class Message(NamedTuple):
    """One request.  `kind` is subsystem and type, `what` names the object in an error: `set inet netloom pools4`."""

    kind: int
    flags: int
    family: int
    body: bytes
    what: object

    def pack(self, sequence: int, flags: int = 0) -> bytes:
        header = HEADER.pack(_HEADERS + len(self.body), self.kind, NLM_F_REQUEST | self.flags | flags, sequence, 0)
        return header + NFGEN.pack(self.family, 0, 0) + self.body


def _frame(kind: int) -> bytes:
    return HEADER.pack(_HEADERS, kind, NLM_F_REQUEST, 0, 0) + NFGEN.pack(0, 0, SUBSYSTEM_NFTABLES)


_BEGIN, _END = _frame(_BATCH_BEGIN), _frame(_BATCH_END)


class Nfnetlink:
    """A NETLINK_NETFILTER socket in the calling thread's namespace; for one thread at a time."""

    def __init__(self) -> None:
        self._socket = open_socket()
        self.port: int = self._socket.getsockname()[0]

    def close(self) -> None:
        self._socket.close()

    def transact(self, batch: Sequence[Message]) -> None:
        """All of it or nothing.  DataplaneError names the first message that was refused."""
        last = len(batch)
        parts = [message.pack(number, NLM_F_ACK if number == last else 0) for number, message in enumerate(batch, 1)]
        self._send(b"".join((_BEGIN, *parts, _END)))
        refusals = []
        for kind, _, sequence, body in self._answers():
            if kind == NLMSG_ERROR and (code := -_ERRNO.unpack_from(body)[0]):
                refusals.append((sequence, code))
            elif kind == NLMSG_ERROR and sequence == last and not refusals:
                return
        if not refusals:
            raise DataplaneError("nft", "batch", "the kernel did not answer", errno=errno.EIO)
        # a refusal of the whole (no right, or a commit that failed) carries the number of BATCH_BEGIN, 0
        sequence, code = refusals[0]
        raise DataplaneError("nft", str(batch[sequence - 1].what) if sequence else "batch", os.strerror(code), errno=code)

    def dump(self, request: Message) -> list[tuple[int, int, bytes]]:
        """Type, family and attributes of each object.  Read again where somebody changed the table meanwhile."""
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump_once(request)
            if found is not None:
                return found
        raise DataplaneError("nft", str(request.what), f"changed {_DUMP_ATTEMPTS} times while it was read", errno=errno.EINTR)

    def send(self, requests: Sequence[Message]) -> list[int]:
        """Outside a batch, each for itself: the errno of each that was refused.  At most a few hundred at a time."""
        last = len(requests)
        parts = [request.pack(number, NLM_F_ACK if number == last else 0) for number, request in enumerate(requests, 1)]
        self._send(b"".join(parts))
        codes = (-_ERRNO.unpack_from(body)[0] for kind, _, _, body in self._answers() if kind == NLMSG_ERROR)
        return [code for code in codes if code]

    def _dump_once(self, request: Message) -> list[tuple[int, int, bytes]] | None:
        self._send(request.pack(1, NLM_F_DUMP))
        found: list[tuple[int, int, bytes]] = []
        changed = 0
        for kind, flags, _, body in self._answers():
            changed |= flags & NLM_F_DUMP_INTR
            if kind in (NLMSG_ERROR, NLMSG_DONE):
                code = -_ERRNO.unpack_from(body)[0] if len(body) >= _ERRNO.size else 0
                if code > 0 and code != errno.EINTR:
                    raise DataplaneError("nft", str(request.what), os.strerror(code), errno=code)
                changed |= code
            else:
                found.append((kind, body[0], body[NFGEN.size :]))
        return None if changed else found

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as e:
            raise DataplaneError("nft", f"{len(data)} bytes", os.strerror(e.errno or 0), errno=e.errno or 0) from e

    def _answers(self) -> Iterator[tuple[int, int, int, bytes]]:
        """All that wait, to the last: a later request must not find them."""
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as e:
                raise DataplaneError("nft", "answer", os.strerror(e.errno or 0), errno=e.errno or 0) from e
            yield from messages(datagram)


def open_socket() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
    sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, _BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
    sock.bind((0, 0))
    return sock
