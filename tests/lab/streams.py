"""Streams: traffic between places that must not lose anything, while something is done to what lies between.

UDP: numbered datagrams at a steady rate; what is missing in the end is lost, unless the receiver's own buffer overflowed, which its
kernel tells.  TCP: flows whose every byte is known beforehand.  All sockets belong to this process, and live in the places' namespaces.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from netloom.dataplane import netns
from netloom.lab.probes import Place
from netloom.model.addresses import Address

_PORT = 7001
_NUMBER = struct.Struct("!I")
_PAYLOAD = 200  # bytes of a datagram
_TCP_INTERVAL = 0.02  # seconds between two writes of a flow
_CHUNK = 4096
_PATTERN = bytes(range(251)) * 64
_PATIENCE = 20.0  # seconds for what is under way
_BEHIND = 0.02  # seconds that are made up for: after a longer halt a burst would overflow queues on the way
_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h


@dataclass
class Datagrams:
    """From one place to one address of another."""

    name: str
    sender: socket.socket
    receiver: socket.socket
    place: Place
    overflows: int
    sent: int = 0
    arrived: set[int] = field(default_factory=set)
    refusals: set[str] = field(default_factory=set)

    @property
    def missing(self) -> list[int]:
        return [number for number in range(self.sent) if number not in self.arrived]


@dataclass
class Flow:
    """Both ends of a TCP connection; bytes go one way."""

    name: str
    client: socket.socket
    server: socket.socket
    sent: int = 0
    received: int = 0
    wrong: str = ""


class Streams:
    """Begins with the block and ends with it; `lost` tells afterwards what did not arrive."""

    def __init__(self, pairs: Iterable[tuple[Place, Place]], *, rate: int = 1000, flows: int = 10) -> None:
        pairs = list(pairs)
        ways = [(a, b, address) for a, b in pairs for address in b.addresses]
        self._interval = len(ways) / rate
        self._datagrams = [_datagrams(a, b, address, _PORT + i) for i, (a, b, address) in enumerate(ways)]
        self._flows = [_flow(*ways[i % len(ways)], _PORT + i) for i in range(flows)]
        self._end = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._send, self._receive)]
        self.lost: list[str] = []

    @property
    def sent(self) -> int:
        return sum(d.sent for d in self._datagrams)

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        self.lost = [*self._judge()]
        for one in self._datagrams:
            one.sender.close()
            one.receiver.close()
        for flow in self._flows:
            flow.client.close()
            flow.server.close()

    def _judge(self) -> Iterable[str]:
        for one in self._datagrams:
            own = _overflows(one.place) - one.overflows
            if len(one.missing) > own:
                yield f"{one.name}: {len(one.missing)} of {one.sent} datagrams, {_ranges(one.missing)}; own overflows {own} {one.refusals or ''}"
        for flow in self._flows:
            if flow.wrong or flow.received != flow.sent:
                yield f"{flow.name}: TCP, {flow.received} of {flow.sent} bytes {flow.wrong}"

    def _send(self) -> None:
        due = now = time.monotonic()
        write = now
        while not self._end.is_set():
            for one in self._datagrams:
                self._emit(one)
            if now >= write:
                write = now + _TCP_INTERVAL
                self._write()
            now = time.monotonic()
            due = max(due + self._interval, now - _BEHIND)
            if due > now:
                time.sleep(due - now)
            now = time.monotonic()

    def _emit(self, one: Datagrams) -> None:
        """The kernel's refusal may be about an earlier one: what is told is what did not arrive, and why it says so."""
        one.sent += 1
        try:
            one.sender.send(_NUMBER.pack(one.sent - 1).ljust(_PAYLOAD, b"\0"))
        except OSError as e:
            one.refusals.add(errno.errorcode.get(e.errno or 0, str(e)))

    def _write(self) -> None:
        for flow in self._flows:
            start = flow.sent % 251
            try:
                flow.sent += flow.client.send(_PATTERN[start : start + _CHUNK])
            except BlockingIOError:
                continue
            except OSError as e:
                flow.wrong = flow.wrong or f"cannot be sent: {errno.errorcode.get(e.errno or 0, e)}"

    def _receive(self) -> None:
        selector = selectors.DefaultSelector()
        for one in self._datagrams:
            selector.register(one.receiver, selectors.EVENT_READ, one)
        for flow in self._flows:
            selector.register(flow.server, selectors.EVENT_READ, flow)
        patience = 0.0
        while True:
            for key, _ in selector.select(0.1):
                _drain(key.data)
            if self._end.is_set() and not self._threads[0].is_alive():
                patience = patience or time.monotonic() + _PATIENCE
                if self._settled() or time.monotonic() > patience:
                    return

    def _settled(self) -> bool:
        return all(len(d.arrived) == d.sent for d in self._datagrams) and all(f.received == f.sent for f in self._flows)


def _drain(one: Datagrams | Flow) -> None:
    try:
        while True:
            if isinstance(one, Datagrams):
                one.arrived.add(_NUMBER.unpack_from(one.receiver.recv(_PAYLOAD))[0])
                continue
            data = one.server.recv(1 << 16)
            if not data:
                return
            start = one.received % 251
            if data != (_PATTERN * (len(data) // len(_PATTERN) + 2))[start : start + len(data)]:
                one.wrong = one.wrong or f"another payload after {one.received}"
            one.received += len(data)
    except BlockingIOError:
        return


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _datagrams(a: Place, b: Place, address: Address, port: int) -> Datagrams:
    with netns.entered(b.netns):
        receiver = socket.socket(_family(address), socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    receiver.bind((str(address), port))
    receiver.setblocking(False)
    with netns.entered(a.netns):
        sender = socket.socket(_family(address), socket.SOCK_DGRAM)
    sender.connect((str(address), port))
    return Datagrams(f"{a.name} → {b.name} {address}", sender, receiver, b, _overflows(b))


def _flow(a: Place, b: Place, address: Address, port: int) -> Flow:
    with netns.entered(b.netns):
        listener = socket.socket(_family(address))
    with listener:
        listener.bind((str(address), port))
        listener.listen()
        with netns.entered(a.netns):
            client = socket.socket(_family(address))
        client.settimeout(_PATIENCE)
        client.connect((str(address), port))
        server, _ = listener.accept()
    client.setblocking(False)
    server.setblocking(False)
    return Flow(f"{a.name} → {b.name} {address}", client, server)


def _overflows(place: Place) -> int:
    """Datagrams that this place's kernel threw away since a socket's buffer was full."""
    with netns.entered(place.netns):
        found = 0
        with open("/proc/thread-self/net/snmp", encoding="ascii") as file:
            names, values = (line.split() for line in file if line.startswith("Udp:"))
        found += int(values[names.index("RcvbufErrors")])
        with open("/proc/thread-self/net/snmp6", encoding="ascii") as file:
            found += sum(int(line.split()[1]) for line in file if line.startswith("Udp6RcvbufErrors"))
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """`3-7, 9`, the first few."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in found]
    return ", ".join(words[:5]) + (" and more" if len(words) > 5 else "")
