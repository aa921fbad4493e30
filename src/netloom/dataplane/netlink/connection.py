"""The socket: requests go out in batches, and every answer is matched to its request by sequence number.

The kernel works a whole send off before `send` returns, message by message, and goes on after a failing one.  So after the
send all answers are waiting: an error for each failed message, and an acknowledgement of the last.  Answers
to earlier requests (somebody gave up half way) carry older sequence numbers and are passed over.

The tricky thing is a full receive buffer: the kernel then drops answers and says ENOBUFS once.  What was dropped is unknown,
so `send_many` sends that chunk again in halves.  Its messages therefore have to bear being sent twice.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType

from netloom.dataplane import netns as namespaces
from netloom.dataplane.netlink.wire import (
    HEADER_LENGTH,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    messages,
    to_text,
)
from netloom.errors import DataplaneError

SOL_NETLINK = 270
NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 10, 11, 12
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1

CHUNK = 128 << 10
"""Bytes in one send.  Larger ones are not faster."""
BUFFER = 8 << 20
"""Room for the errors of a whole chunk, should each message fail (about 1.3 KB of kernel memory each)."""
DATAGRAM = 64 << 10
"""The kernel fills at most 32 KiB of a dump into one datagram."""
PATIENCE = 10
"""Seconds.  The kernel answers before `send` returns; waiting longer means that the answer was lost."""
DUMP_ATTEMPTS = 5

_ERRNO = struct.Struct("=i")
_FLAGS, _FLAGS_OFFSET = struct.Struct("=H"), 6
_SEQUENCE, _SEQUENCE_OFFSET = struct.Struct("=I"), 8
_U32 = 0xFFFFFFFF


class NetlinkError(DataplaneError):
    """The kernel refused message number `index` of a batch; `text` is the kernel's own explanation, if it gave one."""

    def __init__(self, code: int, text: str, index: int) -> None:
        reason = os.strerror(code)
        super().__init__("netlink", f"message {index}", f"{reason}: {text}" if text else reason, errno=code)
        self.text, self.index, self.reason = text, index, f"{reason}: {text}" if text else reason


class Netlink:
    """One NETLINK_ROUTE socket in the calling thread's namespace, or in the one of descriptor `netns`.  For one thread at a time.

    `buffer`: bytes of room for answers; 0: what the kernel gives, which is enough for a handful of requests."""

    def __init__(self, netns: int | None = None, *, buffer: int = BUFFER) -> None:
        if netns is None:
            self._socket = _open(buffer)
        else:
            with namespaces.entered(netns):
                self._socket = _open(buffer)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The number that events caused by this socket carry."""
        return int(self._socket.getsockname()[0])

    def transact(self, *requests: bytes) -> None:
        """All in one send.  Raises the first NetlinkError after the kernel has worked on all of them."""
        if requests and (errors := self._send(requests)):
            raise errors[min(errors)]

    def send_many(self, requests: Sequence[bytes]) -> dict[int, NetlinkError]:
        """For thousands: returns the errors by index of the request, and goes on after each.  Requests may be sent twice."""
        failed: dict[int, NetlinkError] = {}
        for start, end in _chunks(requests):
            failed |= self._send_chunk(requests, start, end)
        return failed

    def ask(self, request: bytes) -> bytes:
        """The body of the one message that answers a request without dump."""
        sequence = self._ask(request, 0)
        for kind, _, number, body in self._answers():
            if number == sequence:
                if kind == NLMSG_ERROR:
                    raise _error(body, 0, 0)
                return body
        raise AssertionError  # _answers never ends

    def dump(self, request: bytes) -> list[bytes]:
        """The bodies of a complete dump, or an error; never a part of it."""
        for _ in range(DUMP_ATTEMPTS):
            bodies = self._dump_once(request)
            if bodies is not None:
                return bodies
        raise DataplaneError("netlink", "dump", f"the table changed {DUMP_ATTEMPTS} times while it was read", errno=errno.EINTR)

    def _send_chunk(self, requests: Sequence[bytes], start: int, end: int) -> dict[int, NetlinkError]:
        try:
            errors = self._send(requests[start:end])
        except DataplaneError as e:
            if e.errno != errno.ENOBUFS or end - start == 1:
                raise
            self._drain()
            middle = (start + end) // 2
            return self._send_chunk(requests, start, middle) | self._send_chunk(requests, middle, end)
        return {start + index: NetlinkError(e.errno, e.text, start + index) for index, e in errors.items()}

    def _drain(self) -> None:
        """Until the buffer is empty the kernel goes on dropping answers, and does not say so again."""
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(DATAGRAM, socket.MSG_DONTWAIT)

    def _send(self, requests: Sequence[bytes]) -> dict[int, NetlinkError]:
        """Only the last one is acknowledged if all goes well, which saves a receive for each of the others."""
        data = bytearray().join(requests)
        first = self._sequence + 1
        offset = 0
        for sequence, request in enumerate(requests, first):
            _SEQUENCE.pack_into(data, offset + _SEQUENCE_OFFSET, sequence & _U32)
            offset += len(request)
        _add_flags(data, offset - len(requests[-1]), NLM_F_ACK)
        self._sequence = (self._sequence + len(requests)) & _U32
        self._transmit(data)
        return self._collect(first, len(requests))

    def _collect(self, first: int, count: int) -> dict[int, NetlinkError]:
        """Reads until the last message of the batch is answered; the kernel answers in order."""
        errors: dict[int, NetlinkError] = {}
        for kind, flags, sequence, body in self._answers():
            index = (sequence - first) & _U32
            if kind != NLMSG_ERROR or index >= count:
                continue
            if _ERRNO.unpack_from(body)[0]:
                errors[index] = _error(body, flags, index)
            if index == count - 1:
                break
        return errors

    def _dump_once(self, request: bytes) -> list[bytes] | None:
        """None where it has to be asked again: the table changed meanwhile, or an earlier dump was given up half way."""
        sequence = self._ask(request, NLM_F_DUMP)
        bodies: list[bytes] = []
        seen = 0
        for kind, flags, number, body in self._answers():
            if number != sequence:
                continue
            seen |= flags
            if kind in (NLMSG_DONE, NLMSG_ERROR):
                code = -_ERRNO.unpack_from(body)[0]
                if code == errno.EBUSY:
                    self._drain()
                    return None
                if code > 0:
                    raise _error(body, flags, 0, of_dump=kind == NLMSG_DONE)
                break
            bodies.append(body)
        return None if seen & NLM_F_DUMP_INTR else bodies

    def _ask(self, request: bytes, flags: int) -> int:
        """Sends one message and returns its sequence number."""
        self._sequence = (self._sequence + 1) & _U32
        data = bytearray(request)
        _SEQUENCE.pack_into(data, _SEQUENCE_OFFSET, self._sequence)
        _add_flags(data, 0, flags)
        self._transmit(data)
        return self._sequence

    def _answers(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Messages as they come, without end; an error where the kernel keeps silent."""
        while True:
            try:
                datagram = self._socket.recv(DATAGRAM)
            except BlockingIOError as e:
                raise DataplaneError("netlink", "answer", f"none within {PATIENCE} s", errno=errno.ETIMEDOUT) from e
            except OSError as e:
                raise DataplaneError("netlink", "answer", os.strerror(e.errno or 0), errno=e.errno or 0) from e
            yield from messages(datagram)

    def _transmit(self, data: bytearray) -> None:
        try:
            self._socket.send(data)
        except OSError as e:
            raise DataplaneError("netlink", "request", os.strerror(e.errno or 0), errno=e.errno or 0) from e


def _open(buffer: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
        sock.setsockopt(SOL_NETLINK, option, 1)
    if buffer:
        sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, buffer)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", PATIENCE, 0))
    sock.bind((0, 0))
    return sock


def _add_flags(data: bytearray, offset: int, flags: int) -> None:
    """To the message at `offset`."""
    (already,) = _FLAGS.unpack_from(data, offset + _FLAGS_OFFSET)
    _FLAGS.pack_into(data, offset + _FLAGS_OFFSET, already | flags)


def _chunks(requests: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Bounds of runs of requests of about CHUNK bytes."""
    start = size = 0
    for index, request in enumerate(requests):
        if size and size + len(request) > CHUNK:
            yield start, index
            start, size = index, 0
        size += len(request)
    if size:
        yield start, len(requests)


def _error(body: bytes, flags: int, index: int, *, of_dump: bool = False) -> NetlinkError:
    """From the body of NLMSG_ERROR: errno, the failed message's header, then attributes with the kernel's words.  NLMSG_DONE
    of a dump that failed looks the same but for the header."""
    text = b""
    if flags & NLM_F_ACK_TLVS:
        text = attributes(body, _ERRNO.size + (0 if of_dump else HEADER_LENGTH)).get(NLMSGERR_ATTR_MSG, b"")
    return NetlinkError(-_ERRNO.unpack_from(body)[0], to_text(text), index)
