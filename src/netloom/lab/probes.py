"""Probes: does a packet get from one network namespace to another, and whom does the receiver see?

Every place gets its own sockets, opened inside its namespace: receivers for TCP and UDP bound to each of its addresses, one
raw ICMP socket per family, and unbound senders, so the kernel chooses the source address as it does for any program.  One
selector serves both ends of all probes.  A probe is done when its token has come back to the sender; what the receiver saw as
source is noted when the token arrives there.  So a failure tells on which half of the way it happened.

At most `WINDOW` probes are under way.  UDP and ICMP are sent again every `RESEND` seconds, TCP by the kernel.
"""

from __future__ import annotations

import enum
import errno
import ipaddress
import os
import resource
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from netloom.dataplane import netns
from netloom.model.addresses import Address
from netloom.model.resources import IPPoolSpec

WINDOW = 200
RESEND = 0.25
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ICMP = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}
"""Protocol, echo request, echo reply (RFC 792, RFC 4443)."""
_TOKEN = struct.Struct("!4sI")  # the run, the probe's number


class Protocol(enum.Enum):
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


class Kind(enum.Enum):
    POD = "pod"
    NODE = "node"


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere with a network stack.  `netns`: an open descriptor.  `addresses`: what others reach it by, at most one per
    family.  `own`: all it may send from (a node's tunnel addresses too).  `node`: where a pod runs, a node's own name.
    `masquerade`: what nodes may see of a pod besides, its node's addresses, where its pool has natOutgoing."""

    name: str
    kind: Kind
    netns: int
    addresses: tuple[Address, ...]
    own: frozenset[Address]
    node: str
    masquerade: frozenset[Address] = frozenset()

    def address(self, version: int) -> Address | None:
        return next((a for a in self.addresses if a.version == version), None)


def pod_place(
    name: str,
    namespace: int,
    addresses: tuple[Address, ...],
    node: str,
    node_addresses: frozenset[Address],
    pools: Iterable[IPPoolSpec],
) -> Place:
    """`node_addresses`: all that its node has; they may stand in for the pod's in the families whose pool has natOutgoing."""
    versions = {a.version for a in addresses for pool in pools if pool.nat_outgoing and a in pool.cidr}
    masquerade = frozenset(a for a in node_addresses if a.version in versions)
    return Place(name, Kind.POD, namespace, addresses, frozenset(addresses), node, masquerade)


@dataclass(frozen=True, slots=True)
class Probe:
    source: Place
    target: Place
    address: Address
    protocol: Protocol

    @property
    def sources(self) -> frozenset[Address]:
        """What the receiver may see."""
        return self.source.own | (self.source.masquerade if self.target.kind is Kind.NODE else frozenset())


@dataclass(frozen=True, slots=True)
class Result:
    """`problem` None: it got there and back, and the receiver saw whom it should."""

    probe: Probe
    problem: str | None
    seen: Address | None = None


def run(probes: Sequence[Probe], timeout: float = 3.0) -> list[Result]:
    """All probes, in the order given; each may take `timeout` seconds."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a place takes eight sockets, and shells allow 1024 files
    with _Run(timeout) as running:
        running.open(probes)
        return running.results(probes)


@dataclass(slots=True)
class _Flight:
    """A probe under way.  `again` sends it once more, where that is for us to do."""

    probe: Probe
    number: int
    deadline: float
    seen: Address | None = None
    answered: bool = False
    again: Callable[[], None] | None = None
    sockets: list[socket.socket] = field(default_factory=list)


class _Run:
    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._name = os.urandom(4)
        self._identifier = struct.unpack("!H", os.urandom(2))[0]  # of our echo requests
        self._selector = selectors.DefaultSelector()
        self._sockets = ExitStack()
        self._ports: dict[tuple[int, Address, Protocol], int] = {}
        self._senders: dict[tuple[int, int, Protocol], socket.socket] = {}
        self._flights: dict[int, _Flight] = {}
        self._done: dict[int, Result] = {}

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        for flight in self._flights.values():
            for one in flight.sockets:
                one.close()
        self._sockets.close()
        self._selector.close()

    # Sockets of the places

    def open(self, probes: Sequence[Probe]) -> None:
        for namespace in {p.source.netns for p in probes} | {p.target.netns for p in probes}:
            targets = {p.address for p in probes if p.target.netns == namespace}
            versions = {p.address.version for p in probes if namespace in (p.source.netns, p.target.netns)}
            with netns.entered(namespace):
                for address in targets:
                    self._open_receivers(namespace, address)
                for version in versions:
                    self._open_senders(namespace, version)

    def _open_receivers(self, namespace: int, address: Address) -> None:
        """A target that does not hold its address gets none; `_start` says so."""
        listener = self._socket(address.version, socket.SOCK_STREAM)
        try:
            listener.bind((str(address), 0))
        except OSError as e:
            if e.errno == errno.EADDRNOTAVAIL:
                return
            raise
        listener.listen(512)
        self._watch(listener, partial(self._accept, listener))
        datagrams = self._socket(address.version, socket.SOCK_DGRAM)
        datagrams.bind((str(address), 0))
        self._watch(datagrams, partial(self._receive_datagram, datagrams))
        self._ports[namespace, address, Protocol.TCP] = listener.getsockname()[1]
        self._ports[namespace, address, Protocol.UDP] = datagrams.getsockname()[1]

    def _open_senders(self, namespace: int, version: int) -> None:
        datagrams = self._socket(version, socket.SOCK_DGRAM)
        self._watch(datagrams, partial(self._receive_answer, datagrams))
        self._senders[namespace, version, Protocol.UDP] = datagrams
        echoes = self._socket(version, socket.SOCK_RAW, _ICMP[version][0])
        self._watch(echoes, partial(self._receive_echo, echoes, version))
        self._senders[namespace, version, Protocol.ICMP] = echoes

    def _socket(self, version: int, kind: int, protocol: int = 0) -> socket.socket:
        one = self._sockets.enter_context(socket.socket(_FAMILY[version], kind, protocol))
        one.setblocking(False)
        return one

    def _watch(self, one: socket.socket, act: Callable[[], None], events: int = selectors.EVENT_READ) -> None:
        self._selector.register(one, events, act)

    # The loop

    def results(self, probes: Sequence[Probe]) -> list[Result]:
        waiting = deque(enumerate(probes))
        resend = time.monotonic() + RESEND
        while waiting or self._flights:
            while waiting and len(self._flights) < WINDOW:
                self._start(*waiting.popleft())
            for key, _ in self._selector.select(RESEND):
                with suppress(BlockingIOError):  # the kernel may wake for a datagram that it then finds damaged
                    key.data()
            now = time.monotonic()
            if not self._selector.select(0):  # what has come in time counts, however late this process got the processor for it
                for flight in [f for f in self._flights.values() if f.deadline <= now]:
                    self._finish(flight.number, _unanswered(flight))
            if now >= resend:
                resend = now + RESEND
                for flight in list(self._flights.values()):
                    if flight.again:
                        flight.again()
        return [self._done[number] for number in range(len(probes))]

    def _start(self, number: int, probe: Probe) -> None:
        flight = _Flight(probe, number, time.monotonic() + self._timeout)
        self._flights[number] = flight
        if (probe.target.netns, probe.address, Protocol.UDP) not in self._ports:
            self._finish(number, "the target does not hold this address")
            return
        with self._blaming(number):
            if probe.protocol is Protocol.TCP:
                self._connect(flight)
            else:
                flight.again = partial(self._send, flight)
                flight.again()

    def _finish(self, number: int, problem: str | None) -> None:
        flight = self._flights.pop(number, None)
        if flight is None:
            return  # it ended before: this comes late, or twice
        for one in flight.sockets:
            if one.fileno() in self._selector.get_map():
                self._selector.unregister(one)
            one.close()
        sources = flight.probe.sources
        if problem is None and flight.seen not in sources:
            wanted = " or ".join(sorted(str(a) for a in sources if a.version == flight.probe.address.version))
            problem = f"wrong source: the receiver saw {flight.seen} instead of {wanted}"
        self._done[number] = Result(flight.probe, problem, flight.seen)

    @contextmanager
    def _blaming(self, number: int) -> Iterator[None]:
        """An error of the socket is the probe's result; would-block is none."""
        try:
            yield
        except BlockingIOError:
            return
        except OSError as e:
            self._finish(number, _reason(e.errno or 0))

    def _token(self, number: int) -> bytes:
        return _TOKEN.pack(self._name, number)

    def _number(self, data: bytes) -> int | None:
        """The probe that a token belongs to; None for what is not of this run."""
        if len(data) < _TOKEN.size:
            return None
        name, number = _TOKEN.unpack_from(data)
        return number if name == self._name else None

    def _arrived(self, data: bytes, source: str) -> int | None:
        """A token at the receiver's end.  The sender's kernel may have shown us the answer to an echo request before."""
        number = self._number(data)
        if number in self._flights:
            flight = self._flights[number]
            flight.seen = ipaddress.ip_address(source.partition("%")[0])
            if flight.answered:
                self._finish(flight.number, None)
        return number

    def _returned(self, data: bytes) -> None:
        """A token back at the sender's end."""
        number = self._number(data)
        if number in self._flights:
            flight = self._flights[number]
            flight.answered = True
            if flight.seen is not None:
                self._finish(flight.number, None)

    # UDP and ICMP

    def _send(self, flight: _Flight) -> None:
        probe, version = flight.probe, flight.probe.address.version
        sender = self._senders[probe.source.netns, version, probe.protocol]
        port, data = 0, self._token(flight.number)
        if probe.protocol is Protocol.UDP:
            port = self._ports[probe.target.netns, probe.address, Protocol.UDP]
        else:
            data = _echo_request(version, self._identifier, flight.number & 0xFFFF, data)
        with self._blaming(flight.number):
            sender.sendto(data, (str(probe.address), port))

    def _receive_datagram(self, receiver: socket.socket) -> None:
        data, peer = receiver.recvfrom(64)
        number = self._arrived(data, peer[0])
        if number is not None:
            with self._blaming(number):
                receiver.sendto(data, peer)

    def _receive_answer(self, sender: socket.socket) -> None:
        self._returned(sender.recv(64))

    def _receive_echo(self, echoes: socket.socket, version: int) -> None:
        """A raw socket sees all echoes of its namespace.  Only the token tells ours: NAT changes identifiers."""
        data, peer = echoes.recvfrom(1024)
        if version == 4:
            data = data[(data[0] & 15) * 4 :]  # a raw IPv4 socket shows the IP header, an IPv6 one does not
        if len(data) < 8:
            return
        if data[0] == _ICMP[version][1]:
            self._arrived(data[8:], peer[0])
        elif data[0] == _ICMP[version][2]:
            self._returned(data[8:])

    # TCP

    def _connect(self, flight: _Flight) -> None:
        probe = flight.probe
        with netns.entered(probe.source.netns):
            client = socket.socket(_FAMILY[probe.address.version], socket.SOCK_STREAM)
        flight.sockets.append(client)
        client.setblocking(False)
        self._watch(client, partial(self._connected, flight, client), selectors.EVENT_WRITE)
        client.connect((str(probe.address), self._ports[probe.target.netns, probe.address, Protocol.TCP]))

    def _connected(self, flight: _Flight, client: socket.socket) -> None:
        self._selector.modify(client, selectors.EVENT_READ, partial(self._receive_end, flight, client))
        with self._blaming(flight.number):
            code = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            client.send(self._token(flight.number))

    def _accept(self, listener: socket.socket) -> None:
        connection, peer = listener.accept()
        connection.setblocking(False)
        self._sockets.enter_context(connection)
        self._watch(connection, partial(self._receive_stream, connection, peer[0]))

    def _receive_stream(self, connection: socket.socket, peer: str) -> None:
        self._selector.unregister(connection)
        with connection:
            try:
                data = connection.recv(64)
                self._arrived(data, peer)
                connection.send(data)
            except OSError:
                return  # the sender's end tells the same

    def _receive_end(self, flight: _Flight, client: socket.socket) -> None:
        with self._blaming(flight.number):
            data = client.recv(64)
            if self._number(data) == flight.number:
                self._returned(data)
            else:
                self._finish(flight.number, "the connection was closed without an answer")


def _echo_request(version: int, identifier: int, sequence: int, data: bytes) -> bytes:
    """The kernel computes ICMPv6's checksum, but not ICMP's (RFC 1071)."""
    kind = _ICMP[version][1]
    packet = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + data
    if version == 6:
        return packet
    total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return packet[:2] + struct.pack("!H", checksum) + packet[4:]


def _unanswered(flight: _Flight) -> str:
    if flight.answered:
        return "somebody else answered: nothing arrived at the target"
    if flight.seen is None:
        return "timed out: nothing arrived"
    return f"timed out: it arrived from {flight.seen}, but no answer came back"


_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ENETUNREACH: "no route at the sender",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EACCES: "prohibited",
    errno.EPERM: "dropped by the sender's own rules",
    errno.ETIMEDOUT: "timed out: nothing arrived",
    errno.EMSGSIZE: "too large for the path",
}


def _reason(code: int) -> str:
    return _REASONS.get(code, os.strerror(code).lower())
