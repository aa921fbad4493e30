"""Inward: what peers send is given to the kernel by the TUN, which routes it on.

    recvmsg ─▶ known sender? ─▶ one datagram ───▶ whole? its source that sender's? ──────────────────▶ write
                          └──▶ many (UDP_GRO) ─▶ merge (bulk) ─▶ each: its source that sender's? ─▶ write

A plain peer's datagrams come one by one, and so do those without an outer checksum, which the kernel does not put together: those that
wait are read back to back, and merged like the others.

A node may not send from another node's prefixes and addresses: one that was broken into cannot speak for pods of others.

What comes from a node of the same machine, over a veth, may have an unfinished checksum, for no network card has finished it: a
program in the peer's kernel put the outer header around what its pod gave.  Such a packet, told by its checksum's being the sum of
its pseudo header, is given on as what it is.  It may be longer than any packet of the wire, too: then it is many as one.  And to such a
peer datagrams go one by one, for its program cannot take dozens apart that a veth carries as one.

What met congestion on its way goes on one by one, each with a mark.
"""

from __future__ import annotations

import os
import socket
import sys

from netloom.tunnel.forwarder.bulk import LONGEST, MOST_SEGMENTS, Bulk
from netloom.tunnel.forwarder.bulk.flows import pseudo_sum, transport
from netloom.tunnel.forwarder.checksums import MODULUS
from netloom.tunnel.forwarder.classes import CONGESTED, LOW, bears_congestion
from netloom.tunnel.forwarder.counting import Lost
from netloom.tunnel.forwarder.offload import PLAIN, merged, partial
from netloom.tunnel.forwarder.outward import CALM, LOOK, START, TURN
from netloom.tunnel.forwarder.packets import CHECKSUM_AT, TCP, source, whole
from netloom.tunnel.forwarder.sockets import Sockets
from netloom.tunnel.forwarder.table import Peer, Table

_SIZE = 2 * socket.CMSG_SPACE(4)
_SOL_UDP = 17
_FIRST, _EVERY = 64, 16
"""TCP and UDP packets of a peer that are looked at in any case; if their checksums were finished, then one packet in so many."""


class Inward:
    """`mtu`: of the TUN; no packet of the wire is longer."""

    def __init__(self, sockets: Sockets, table: Table, bulk: Bulk, lost: Lost) -> None:
        self._sockets, self._table, self._bulk, self._lost = sockets, table, bulk, lost
        self._room = memoryview(bytearray(START + 2 * (LONGEST + 1)))
        self._find = table.by_prefix.find
        self._first = [self._room[START:]]
        self._calm = 0
        self.mtu = LONGEST

    def turn(self) -> None:
        """Everything that waits, within reason."""
        calm = self._calm
        alone = calm >= CALM and calm % LOOK
        count = self._receive(1 if alone else TURN)
        self._calm = calm + 1 if count <= 1 else 0

    def _receive(self, most: int) -> int:
        receive, room, lost, senders = self._sockets.udp.recvmsg_into, self._room, self._lost, self._table.by_sender
        at, waiting, size, of, count = START, 0, 0, None, 0
        while count < most:
            try:
                into = [room[at:]] if waiting else self._first
                length, ancillary, _, where = receive(into, _SIZE)
            except BlockingIOError:
                break
            count += 1
            sender = senders.get(where[0])
            if sender is None:
                lost.strangers += 1
                continue
            if not length:
                lost.malformed += 1
                continue
            each = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary[0][0] == _SOL_UDP else length
            if ancillary[-1][2][LOW] & CONGESTED == CONGESTED:
                if waiting:
                    self._take(room[START:at], waiting, size, of)
                self._congested(room[at : at + length], each, sender)
                at, waiting = START, 0
                continue
            if waiting and (sender is not of or length > size):
                self._take(room[START:at], waiting, size, of)
                room[START : START + length] = room[at : at + length]
                at, waiting = START, 0
            if 0 < each < length:
                self._many(room[START : START + length], each, sender)
                continue
            if not waiting:
                of, size = sender, length
            waiting += 1
            at += length
            if length < size or waiting == MOST_SEGMENTS or at - START + size > LONGEST:
                self._take(room[START:at], waiting, size, of)
                at, waiting = START, 0
        if waiting:
            self._take(room[START:at], waiting, size, of)
        return count

    def _take(self, datagrams: memoryview, count: int, size: int, sender: Peer | None) -> None:
        """What came one by one, of one sender and size, may belong together all the same."""
        assert sender is not None
        if count > 1 and not sender.unfinished and not self._is_unfinished(datagrams[:size], sender):
            self._many(datagrams, size, sender)
            return
        for at in range(0, len(datagrams), size):
            self._one(datagrams[at : at + size], sender)

    def _congested(self, datagrams: memoryview, size: int, sender: Peer) -> None:
        for at in range(0, len(datagrams), size):
            if bears_congestion(datagrams[at : at + size]):
                self._one(datagrams[at : at + size], sender)
            else:
                self._lost.congested += 1

    def _one(self, packet: memoryview, sender: Peer) -> None:
        own = whole(packet)
        if not own:
            self._lost.malformed += 1
            return
        owner = self._find(bytes(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]))
        if owner is not sender and owner is not None and not self._was(owner, sender):
            self._lost.liars += 1
            return
        sender.received += 1
        sender.received_bytes += len(packet)
        if sender.unlooked and not sender.unfinished:
            sender.unlooked -= 1
        elif self._is_unfinished(packet[:own], sender):
            self._write_unfinished(packet[:own])
            return
        self._write(PLAIN, packet[:own])

    def _many(self, datagrams: memoryview, size: int, sender: Peer) -> None:
        for head, packet in self._bulk.merge(datagrams, size):
            own = whole(packet)
            if not own:
                self._lost.malformed += 1
            elif (owner := self._find(source(packet))) not in (sender, None) and not self._was(owner, sender):
                self._lost.liars += 1
            else:
                self._write(head, packet[:own])
        sender.received += -(-len(datagrams) // size)
        sender.received_bytes += len(datagrams)

    def _was(self, owner: Peer | None, sender: Peer) -> bool:
        """Whether it is the owner who sends, from the address that it had before."""
        return owner is not None and self._table.former.get(sender.address) == owner.address

    def _write(self, head: bytes, packet: memoryview) -> None:
        try:
            os.writev(self._sockets.tun, [head, packet])
        except OSError:
            self._lost.unwritten += 1

    def _is_unfinished(self, packet: memoryview, sender: Peer) -> bool:
        of = transport(packet)
        if of is None:
            return False
        field = packet[of.checksum] << 8 | packet[of.checksum + 1]
        if field % MODULUS != pseudo_sum(packet, of, len(packet)) % MODULUS:
            sender.finished += 1
            sender.unlooked = 0 if sender.finished < _FIRST else _EVERY - 1
            return False
        sender.unfinished = True
        return True

    def _write_unfinished(self, packet: memoryview) -> None:
        of = transport(packet)
        assert of is not None
        if len(packet) > self.mtu and of.protocol == TCP:
            self._write(merged(TCP, of.version, of.l4, of.header, self.mtu - of.header), packet)
        else:
            self._write(partial(of.l4, CHECKSUM_AT[of.protocol]), packet)
