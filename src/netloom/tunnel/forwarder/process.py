"""The process: from what it is told at its start to a loop over TUN, UDP socket and control socket, which ends with a successor.

    start ─▶ does one run already? ──no──▶ open TUN and sockets
                    └──yes─▶ read its table ─▶ ask for everything ─▶ it stops, and sends descriptors and counters ─▶ "succeeded": it ends
          ─▶ give up privileges ─▶ poll

Between the old one's last packet and the new one's first lie milliseconds, in which packets wait in the TUN and in the socket: none is
lost.  A successor that fails before it has said "succeeded" has changed nothing; the old one goes on.

A TUN that was taken away (its link deleted) cannot be had again without privileges: then the process ends, and whoever started it
starts another.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from socket import SO_ERROR, SOL_SOCKET, socket

import netloom
from netloom.errors import ConfigError, DataplaneError
from netloom.model.addresses import Address, parse_address
from netloom.tunnel.forwarder import messages, sockets
from netloom.tunnel.forwarder.bulk import LONGEST, best
from netloom.tunnel.forwarder.client import Client, path
from netloom.tunnel.forwarder.control import Connection, Control
from netloom.tunnel.forwarder.counting import Lost
from netloom.tunnel.forwarder.inward import Inward
from netloom.tunnel.forwarder.messages import (
    Answer,
    Ask,
    Change,
    Done,
    PeerCount,
    Read,
    Replace,
    Request,
    State,
    Stop,
    Succeed,
    Succeeded,
    Succession,
    Whole,
)
from netloom.tunnel.forwarder.outward import Outward
from netloom.tunnel.forwarder.privileges import give_up
from netloom.tunnel.forwarder.sockets import Sockets
from netloom.tunnel.forwarder.table import Table

log = logging.getLogger(__name__)

_SUCCESSOR_SECONDS = 5.0
_ENDING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """What does not change while a forwarder runs.  Another `local` or `port` is for a successor, which opens a socket of its own.
    `also`: other addresses that datagrams may come to."""

    run_dir: str
    device: str
    local: Address
    port: int
    also: tuple[Address, ...] = ()

    @property
    def path(self) -> str:
        return path(self.run_dir, self.device)


def run(parameters: Parameters, ready: Callable[[], None]) -> None:
    """Until it is told to stop or has a successor.  Raises ConfigError and DataplaneError."""
    forwarder = Forwarder(parameters)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    give_up()
    ready()
    gc.freeze()  # what a start makes stays
    forwarder.serve()


class Forwarder:
    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._poll = select.poll()
        self._lost, self._table = Lost(), Table(parameters.port)
        best()  # imports what it needs before a predecessor stops
        self._stopping = False
        self._successor: Connection | None = None
        self._waits_until = 0.0
        self._control = Control(parameters.path, self._carry, self._watch, self._gone)
        self._mtu = 0
        try:
            self._start()
        except BaseException:
            self._control.discard()
            raise

    def _start(self) -> None:
        predecessor = _predecessor(self._parameters)
        if predecessor is None:
            own = self._parameters
            self._begin(sockets.open_all(own.device, own.local, own.port, own.also))
            self._control.take_place()
            return
        with predecessor:
            opened = self._other_sockets(predecessor.state())
            read = predecessor.read()
            self._know(read)
            succession, descriptors = predecessor.succeed(read.number)
            try:
                adopted = self._adopted(descriptors, opened)
            except OSError as e:
                raise DataplaneError("forwarder", self._parameters.device, f"cannot take over: {e}") from e
            if succession.table is not None:
                self._know(succession.table)
            self._count_on(succession)
            self._begin(adopted)
            self._control.take_place()
            predecessor.succeeded()

    def _adopted(self, descriptors: Sequence[int], opened: Sequence[socket]) -> Sockets:
        own = self._parameters
        return sockets.adopt(descriptors, own.local, own.port, own.also, opened)

    def _other_sockets(self, state: State) -> list[socket]:
        """Those that the predecessor has not got.  One that it has had before may still be held by its own predecessor, which is about to
        end."""
        own = self._parameters
        theirs = {(parse_address(text), state.port) for text in (state.local, *state.also)}
        end = time.monotonic() + _ENDING_SECONDS
        return [_opened(address, own.port, end) for address in (own.local, *own.also) if (address, own.port) not in theirs]

    def _begin(self, own: Sockets) -> None:
        self._sockets = own
        self._bulk = best(udp_as_one=own.udp_as_one)
        self._outward = Outward(own, self._table, self._bulk, self._lost)
        self._inwards = {
            udp.fileno(): Inward(replace(own, udp=udp), self._table, self._bulk, self._lost) for udp in (own.udp, *own.also)
        }
        if self._mtu:
            self._resize(self._mtu)
        self._turns = {own.tun: self._outward.turn} | {fd: inward.turn for fd, inward in self._inwards.items()}
        self._forward(True)

    def _forward(self, on: bool) -> None:
        for fd in self._turns:
            self._watch(fd, on)

    def _watch(self, fd: int, on: bool) -> None:
        if on:
            self._poll.register(fd, select.POLLIN)
        else:
            self._poll.unregister(fd)

    def serve(self) -> None:
        poll, turns, control = self._poll.poll, self._turns, self._control.readable
        try:
            while not self._stopping:
                for fd, event in poll(_patience(self._waits_until)):
                    turn = turns.get(fd)
                    if turn is None:
                        control(fd)
                    elif event == select.POLLIN:
                        turn()
                    else:
                        self._broken(fd)
                if self._waits_until and time.monotonic() > self._waits_until:
                    self._resume("said nothing for too long")
        finally:
            self._control.close()
            self._sockets.close()

    def _broken(self, fd: int) -> None:
        """A UDP socket has an error to tell now and then, which is gone when it was read."""
        if fd == self._sockets.tun:
            raise DataplaneError("tun", self._parameters.device, "was taken away", errno=errno.ENODEV)
        udp = next(each for each in (self._sockets.udp, *self._sockets.also) if each.fileno() == fd)
        with suppress(OSError):
            udp.getsockopt(SOL_SOCKET, SO_ERROR)
        self._inwards[fd].turn()

    def _resize(self, mtu: int) -> None:
        self._mtu = mtu
        for inward in self._inwards.values():
            inward.mtu = mtu

    # what is asked

    def _carry(self, request: Request, connection: Connection) -> tuple[Answer, Sequence[int]]:
        match request:
            case Replace():
                self._table.replace(messages.prefixes(request.tunnels), messages.senders(request.senders, request.former))
                self._resize(request.mtu)
            case Change():
                self._table.change(
                    messages.prefixes(request.put),
                    messages.prefixes(dict.fromkeys(request.delete, "::")).keys(),
                    messages.senders(request.believe, request.former),
                    messages.addresses(request.disbelieve),
                )
                self._resize(request.mtu or self._mtu or LONGEST)
            case Ask():
                return self._state(peers=request.peers), ()
            case Read():
                return self._whole(), ()
            case Succeed():
                return self._succession(request, connection)
            case Succeeded() if connection is self._successor:
                log.info("a successor has taken over")
                self._successor = None
                self._stopping = True
            case Succeeded():
                raise ValueError("nothing was handed over to you")
            case Stop():
                self._stopping = True
        return Done(number=self._table.number), ()

    def _state(self, *, peers: bool) -> State:
        own = self._parameters
        return State(
            pid=os.getpid(),
            version=netloom.__version__,
            device=own.device,
            local=str(own.local),
            port=own.port,
            bulk=self._bulk.name,
            number=self._table.number,
            tunnels=len(self._table.tunnels),
            senders=len(self._table.by_sender),
            lost=self._lost.as_dict(),
            peers=self._counts() if peers else [],
            also=list(map(str, own.also)),
        )

    def _counts(self) -> list[PeerCount]:
        return [
            PeerCount(
                address=str(peer.address),
                sent=peer.sent,
                sent_bytes=peer.sent_bytes,
                received=peer.received,
                received_bytes=peer.received_bytes,
            )
            for peer in self._table.by_sender.values()  # this node itself has prefixes, and is no peer
        ]

    def _whole(self) -> Whole:
        return Whole(
            tunnels={str(prefix): str(address) for prefix, address in self._table.tunnels.items()},
            senders=[str(address) for address in self._table.senders],
            former={str(address): str(present) for address, present in self._table.former.items()},
            mtu=self._mtu,
            number=self._table.number,
        )

    # succession

    def _succession(self, request: Succeed, connection: Connection) -> tuple[Succession, Sequence[int]]:
        if self._successor is not None:
            raise ValueError("another successor is about to take over")
        self._successor, self._waits_until = connection, time.monotonic() + _SUCCESSOR_SECONDS
        self._forward(False)
        own = self._parameters
        succession = Succession(
            device=own.device,
            local=str(own.local),
            port=own.port,
            lost=self._lost.as_dict(),
            peers=self._counts(),
            table=None if request.number == self._table.number else self._whole(),
        )
        return succession, self._sockets.descriptors()

    def _gone(self, connection: Connection) -> None:
        if connection is self._successor:
            self._resume("went away")

    def _resume(self, why: str) -> None:
        if not self._stopping:
            log.warning("a successor %s: going on", why)
            self._successor, self._waits_until = None, 0.0
            self._forward(True)

    def _know(self, whole: Whole) -> None:
        self._table.replace(messages.prefixes(whole.tunnels), messages.senders(whole.senders, whole.former))
        self._table.number = whole.number
        self._mtu = whole.mtu

    def _count_on(self, succession: Succession) -> None:
        known = {field.name for field in fields(Lost)}
        for name, count in succession.lost.items():
            if name in known:
                setattr(self._lost, name, count)
        counts = {count.address: count for count in succession.peers}
        for peer in self._table.peers:
            if found := counts.get(str(peer.address)):
                peer.sent, peer.sent_bytes = found.sent, found.sent_bytes
                peer.received, peer.received_bytes = found.received, found.received_bytes


def _opened(address: Address, port: int, end: float) -> socket:
    while True:
        try:
            return sockets.open_udp(address, port)
        except ConfigError as e:
            if not isinstance(e.__cause__, OSError) or e.__cause__.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _end(number: int, _: object) -> None:
    """Wherever it is: a flag would not end a wait, for Python goes on waiting after a signal."""
    sys.exit(0)


def _patience(until: float) -> int | None:
    """Milliseconds."""
    return max(0, int((until - time.monotonic()) * 1000) + 1) if until else None


def _predecessor(parameters: Parameters) -> Client | None:
    try:
        return Client(parameters.path)
    except DataplaneError as e:
        if e.errno in (errno.ENOENT, errno.ECONNREFUSED):
            return None
        raise


def log_to_stderr(level: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
