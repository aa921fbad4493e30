"""Outward: what the kernel sends into the TUN goes to the peer that has its target.

    read ─▶ one packet ──▶ finish its checksum ─▶ whose is the target? ─▶ beside others of its size for the same peer ─▶ sendmsg
        └─▶ many as one ─▶ cut (bulk) ──────────▶ whose is the target? ───────────────────────────────────────────────▶ sendmsg

Small packets are read back to back into one room, as long as they are of one size and for one peer, and are sent as datagrams by one
call.  Looking for another packet that is not there costs a microsecond, so who is asked one question at a time is answered at once:
when for a few turns each packet came alone, it is not waited for company, but now and then.

Outer packets have the class of what is in them (`classes`), so packets of two classes are not sent by one call.  They have DF set, so
that the kernel learns a path's MTU.  What does not fit is answered as a router does; what may be fragmented, or cannot be made smaller
(IPv6 below 1280), goes in outer fragments.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import time

from netloom.tunnel.forwarder import answers
from netloom.tunnel.forwarder.answers import Budget
from netloom.tunnel.forwarder.bulk import LONGEST, MOST_BYTES, MOST_SEGMENTS, Bulk
from netloom.tunnel.forwarder.checksums import finish
from netloom.tunnel.forwarder.classes import class_of, marked
from netloom.tunnel.forwarder.counting import Lost
from netloom.tunnel.forwarder.offload import LENGTH, NEEDS_CHECKSUM, super_packet, unfinished
from netloom.tunnel.forwarder.packets import V4_HEADER, V6_HEADER, may_be_fragmented, source, target, whole
from netloom.tunnel.forwarder.sockets import Sockets, fragment, path_mtu, segments
from netloom.tunnel.forwarder.table import Peer, Table

START = 16
"""Where the first packet lies: its words are at multiples of four."""
_SLACK = 64  # more than the longest IPv6 packet has beyond LONGEST: what fills it was cut off
TURN = 64
"""Packets at most before others get their turn."""
CALM, LOOK = 4, 16
"""Turns with one packet until company is not waited for, and turns between two looks for it."""
_RETRY_SEGMENTS = 60.0  # seconds until datagrams are sent by dozens again, after the kernel could not
_TOO_BIG = {errno.EMSGSIZE, errno.EINVAL}  # of segments that are too big some kernels say EINVAL
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}


class Outward:
    def __init__(self, sockets: Sockets, table: Table, bulk: Bulk, lost: Lost) -> None:
        self._sockets, self._table, self._bulk, self._lost = sockets, table, bulk, lost
        self._send, self._send_many = sockets.udp.sendto, sockets.udp.sendmsg
        self._head = bytearray(LENGTH)
        self._room = memoryview(bytearray(START + MOST_BYTES + LONGEST + _SLACK))
        self._segments: dict[int, list[tuple[int, int, bytes]]] = {}
        self._calm = 0
        self._singly_until = 0.0
        self._budget = Budget()
        local = sockets.udp.getsockname()[0]
        self._local: str = local
        self._version, self._overhead = (6, 48) if ":" in local else (4, 28)

    def turn(self) -> None:
        """Everything that waits, within reason."""
        calm = self._calm
        alone = calm >= CALM and calm % LOOK
        count = self._read(1 if alone else TURN)
        self._calm = calm + 1 if count <= 1 else 0

    def _read(self, most: int) -> int:
        tun, head, room, lost = self._sockets.tun, self._head, self._room, self._lost
        find, readv = self._table.by_prefix.find, os.readv
        at, waiting, size, to, count, mark = START, 0, 0, None, 0, 0
        while count < most:
            try:
                length = readv(tun, [head, room[at:]]) - LENGTH
            except BlockingIOError:
                break
            count += 1
            if length < V4_HEADER:
                lost.malformed += 1
                continue
            if head[1]:  # many as one
                if waiting:
                    self._flush(room[START:at], waiting, size, to, mark)
                    room[START : START + length] = room[at : at + length]
                    at, waiting = START, 0
                self._many(room[START : START + length])
                continue
            packet = room[at : at + length]
            if packet[0] >> 4 == 4:
                peer, kind = find(bytes(packet[16:20])), packet[1]
            else:
                peer = find(bytes(packet[24:40])) if length >= V6_HEADER else None
                kind = class_of(packet)
            if peer is None:
                self._unknown(packet)
                continue
            if head[0] & NEEDS_CHECKSUM:
                start, field = unfinished(head)
                if field + 2 > length:
                    lost.malformed += 1
                    continue
                finish(packet, start, field)
            if waiting and (peer is not to or length > size or kind != mark):
                self._flush(room[START:at], waiting, size, to, mark)
                room[START : START + length] = packet
                at, waiting = START, 0
            if not waiting:
                to, size, mark = peer, length, kind
            waiting += 1
            at += length
            if length < size or waiting == MOST_SEGMENTS or at - START + size > MOST_BYTES:
                self._flush(room[START:at], waiting, size, to, mark)
                at, waiting = START, 0
        if waiting:
            self._flush(room[START:at], waiting, size, to, mark)
        return count

    def _many(self, packet: memoryview) -> None:
        many = super_packet(self._head, packet)
        if many is None or not whole(packet):
            self._lost.malformed += 1
            return
        peer = self._table.by_prefix.find(target(packet))
        if peer is None:
            self._unknown(packet)
            return
        mark = class_of(packet)
        for datagrams, size in self._bulk.cut(packet, many):
            self._flush(datagrams, -(-len(datagrams) // size), size, peer, mark)

    def _flush(self, datagrams: memoryview, count: int, size: int, to: Peer | None, mark: int) -> None:
        assert to is not None
        try:
            if count == 1 and not mark:
                self._send(datagrams, to.where)
            elif count == 1:
                self._send_many([datagrams], [marked(self._version, mark)], 0, to.where)
            elif to.unfinished or (self._singly_until and self._singly()):
                self._one_by_one(datagrams, size, to, mark)
                return
            else:
                known = self._segments.get(size)
                if known is None:
                    known = self._segments[size] = segments(size)
                if mark:
                    known = [*known, marked(self._version, mark)]
                self._send_many([datagrams], known, 0, to.where)
        except OSError as e:
            self._refused(e, datagrams, count, size, to, mark)
            return
        to.sent += count
        to.sent_bytes += len(datagrams)

    def _refused(self, error: OSError, datagrams: memoryview, count: int, size: int, to: Peer, mark: int) -> None:
        if count > 1:
            if error.errno == errno.EIO:  # the interface cannot do checksums of segments
                self._singly_until = time.monotonic() + _RETRY_SEGMENTS
            if error.errno in _TOO_BIG or error.errno == errno.EIO:
                self._one_by_one(datagrams, size, to, mark)
                return
        if error.errno == errno.EMSGSIZE:
            self._too_big(datagrams, to)
        elif error.errno in _NO_WAY:
            self._lost.unreachable += count
            self._answer(answers.unreachable(datagrams[:size], node=True), datagrams)
        else:
            self._lost.unsent += count

    def _one_by_one(self, datagrams: memoryview, size: int, to: Peer, mark: int) -> None:
        for at in range(0, len(datagrams), size):
            self._flush(datagrams[at : at + size], 1, size, to, mark)

    def _singly(self) -> bool:
        if time.monotonic() < self._singly_until:
            return True
        self._singly_until = 0.0
        return False

    def _too_big(self, packet: memoryview, to: Peer) -> None:
        """For the path to that peer, the kernel says."""
        udp, length = self._sockets.udp, whole(packet)
        try:
            mtu = path_mtu(self._local, to.where) - self._overhead
        except OSError:
            mtu = 0
        if may_be_fragmented(packet) or (packet[0] >> 4 == 6 and mtu < answers.V6_LEAST):
            fragment(udp, allowed=True)
            try:
                self._send_many([packet], [marked(self._version, class_of(packet))], 0, to.where)
            except OSError:
                self._lost.unsent += 1
            else:
                to.sent += 1
                to.sent_bytes += length
            finally:
                fragment(udp, allowed=False)
            return
        self._lost.too_big += 1
        if 0 < mtu < length:
            self._answer(answers.too_big(packet, mtu), packet)

    def _unknown(self, packet: memoryview) -> None:
        if not whole(packet):
            self._lost.malformed += 1
            return
        self._lost.unknown += 1
        self._answer(answers.unreachable(packet), packet)

    def _answer(self, message: bytes | None, packet: memoryview) -> None:
        """To the one who sent the packet."""
        errors = self._sockets.errors.get(packet[0] >> 4)
        if message is None or errors is None:
            return
        receiver = source(packet)
        if not self._budget.allows(receiver):
            self._lost.unanswered += 1
            return
        try:
            errors.sendto(message, (str(ipaddress.ip_address(receiver)), 0))
        except OSError:  # it cannot be reached, or no more fits: an error is not worth another one
            self._lost.unanswered += 1
