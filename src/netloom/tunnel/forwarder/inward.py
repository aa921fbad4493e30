"""Inward: what peers send is given to the kernel by the TUN, which routes it on.

    recvmsg ─▶ known sender? ─▶ one datagram ───▶ whole? its source that sender's? ─▶ write
                          └──▶ many (UDP_GRO) ─▶ merge (bulk) ─▶ each: its source that sender's? ─▶ write

A node may send packets from its own prefixes and addresses only: a node that was broken into cannot speak for pods of others.

What comes from a node of the same machine, over a veth, may have an unfinished checksum, for no network card has finished it: a
program in the peer's kernel put the outer header around what its pod gave.  Such a packet, told by its checksum's being the sum of
its pseudo header, is given on as what it is.  It may be longer than any packet of the wire, too: then it is many as one.  And to such a
peer datagrams go one by one, for its program cannot take dozens apart that a veth carries as one.
"""

from __future__ import annotations

import os
import socket
import sys

from netloom.tunnel.forwarder.bulk import LONGEST, Bulk
from netloom.tunnel.forwarder.bulk.flows import pseudo_sum, transport
from netloom.tunnel.forwarder.checksums import MODULUS
from netloom.tunnel.forwarder.counting import Lost
from netloom.tunnel.forwarder.offload import LENGTH, merged, partial
from netloom.tunnel.forwarder.outward import CALM, LOOK, START, TURN
from netloom.tunnel.forwarder.packets import CHECKSUM_AT, TCP, source, whole
from netloom.tunnel.forwarder.sockets import Sockets
from netloom.tunnel.forwarder.table import Peer, Table

_SIZE = socket.CMSG_SPACE(4)
_FIRST, _EVERY = 64, 16
"""TCP and UDP packets of a peer that are looked at in any case; if their checksums were finished, then one packet in so many."""


class Inward:
    """`mtu`: of the TUN; no packet of the wire is longer."""

    def __init__(self, sockets: Sockets, table: Table, bulk: Bulk, lost: Lost) -> None:
        self._sockets, self._table, self._bulk, self._lost = sockets, table, bulk, lost
        self._room = memoryview(bytearray(START + LONGEST + 1))
        self._into = [self._room[START:]]
        self._before = START - LENGTH
        """The zeros ahead of the first packet are its virtio_net_hdr."""
        self._calm = 0
        self.mtu = LONGEST

    def turn(self) -> None:
        """Everything that waits, within reason."""
        calm = self._calm
        alone = calm >= CALM and calm % LOOK
        count = self._receive(1 if alone else TURN)
        self._calm = calm + 1 if count <= 1 else 0

    def _receive(self, most: int) -> int:
        receive, into, room, lost, flags = (
            self._sockets.udp.recvmsg_into,
            self._into,
            self._room,
            self._lost,
            socket.MSG_DONTWAIT,
        )
        senders, find, tun, before = self._table.by_sender, self._table.by_prefix.find, self._sockets.tun, self._before
        count = 0
        while count < most:
            try:
                length, ancillary, _, where = receive(into, _SIZE, flags)
            except BlockingIOError:
                break
            count += 1
            sender = senders.get(where[0])
            if sender is None:
                lost.strangers += 1
                continue
            if ancillary:
                size = int.from_bytes(ancillary[0][2], sys.byteorder)
                if length > size > 0:
                    self._many(room[START : START + length], size, sender)
                    continue
            end = START + length
            packet = room[START:end]
            own = whole(packet)
            if not own:
                lost.malformed += 1
                continue
            if find(bytes(packet[12:16] if packet[0] >> 4 == 4 else packet[8:24])) is not sender:
                lost.liars += 1
                continue
            sender.received += 1
            sender.received_bytes += length
            if sender.unlooked and not sender.unfinished:
                sender.unlooked -= 1
            elif self._is_unfinished(packet[:own], sender):
                continue
            try:
                os.write(tun, room[before : START + own])
            except OSError:
                lost.unwritten += 1
        return count

    def _many(self, datagrams: memoryview, size: int, sender: Peer) -> None:
        find, lost = self._table.by_prefix.find, self._lost
        for head, packet in self._bulk.merge(datagrams, size):
            own = whole(packet)
            if not own:
                lost.malformed += 1
            elif find(source(packet)) is not sender:
                lost.liars += 1
            else:
                self._write(head, packet[:own])
        sender.received += -(-len(datagrams) // size)
        sender.received_bytes += len(datagrams)

    def _write(self, head: bytes, packet: memoryview) -> None:
        try:
            os.writev(self._sockets.tun, [head, packet])
        except OSError:
            self._lost.unwritten += 1

    def _is_unfinished(self, packet: memoryview, sender: Peer) -> bool:
        """If so, it is written here."""
        of = transport(packet)
        if of is None:
            return False
        field = packet[of.checksum] << 8 | packet[of.checksum + 1]
        if field % MODULUS != pseudo_sum(packet, of, len(packet)) % MODULUS:
            sender.finished += 1
            sender.unlooked = 0 if sender.finished < _FIRST else _EVERY - 1
            return False
        sender.unfinished = True
        if len(packet) > self.mtu and of.protocol == TCP:
            self._write(merged(TCP, of.version, of.l4, of.header, self.mtu - of.header), packet)
        else:
            self._write(partial(of.l4, CHECKSUM_AT[of.protocol]), packet)
        return True
