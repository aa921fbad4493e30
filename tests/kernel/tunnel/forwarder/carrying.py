"""What pods send each other, and whether it arrives."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.tunnel_pair import PATIENCE, Node

_UDP_SEGMENT = 103
_ON_THE_WAY = 200
"""So many that have not arrived: queues on the way hold them while somebody there waits for the processor."""
_BEHIND = 0.02  # seconds that are made up for: after a longer halt a burst would overflow queues on the way


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def pings(node: Node, target: str, size: int, *options: str) -> str:
    """What ping says, from the node's pod.  It sends one: of more it does not wait for the last, but two round trips."""
    command = ["ping", "-n", "-c", "1", "-W", "10", "-s", str(size), *options, target]
    with node.inside():
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE * 2).stdout


def answered(node: Node, target: str, size: int, *options: str) -> bool:
    said = pings(node, target, size, *options)
    assert " 0% packet loss" in said, said
    return True


def digests(sender: Node, receiver: Node, address: str, size: int = 4 << 20) -> tuple[str, str]:
    """sha256 of what is sent over TCP, and of what arrives."""
    data = os.urandom(1 << 20) * (size >> 20)
    found = hashlib.sha256()
    with ExitStack() as stack:
        with receiver.inside():
            listener = stack.enter_context(socket.create_server((address, 0), family=family_of(address)))
        with sender.inside():
            stream = stack.enter_context(socket.socket(family_of(address)))
        stream.settimeout(PATIENCE)
        stream.connect(listener.getsockname()[:2])
        accepted = stack.enter_context(listener.accept()[0])
        accepted.settimeout(PATIENCE)

        def send() -> None:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send, daemon=True)
        sending.start()
        while part := accepted.recv(1 << 20):
            found.update(part)
        sending.join(PATIENCE)
    return hashlib.sha256(data).hexdigest(), found.hexdigest()


def carried(sender: Node, receiver: Node, address: str, size: int = 4 << 20) -> bool:
    sent, arrived = digests(sender, receiver, address, size)
    return sent == arrived


@contextmanager
def udp_pair(sender: Node, receiver: Node, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connected socket of the one, bound one of the other."""
    with ExitStack() as stack:
        with receiver.inside():
            bound = stack.enter_context(socket.socket(family_of(address), socket.SOCK_DGRAM))
        bound.bind((address, 0))
        bound.settimeout(PATIENCE)
        bound.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        with sender.inside():
            connected = stack.enter_context(socket.socket(family_of(address), socket.SOCK_DGRAM))
        connected.connect(bound.getsockname()[:2])
        yield connected, bound


@contextmanager
def one_processor(*nodes: Node) -> Iterator[None]:
    """The calling thread and the nodes' forwarders share one, so that what they send keeps its order: what the kernel puts off on one
    processor is overtaken by what is sent on another."""
    threads = [int(thread) for node in nodes for thread in os.listdir(f"/proc/{node.pid}/task")]
    before = {thread: os.sched_getaffinity(thread) for thread in (0, *threads)}
    try:
        for thread in before:
            os.sched_setaffinity(thread, {min(before[0])})
        yield
    finally:
        for thread, processors in before.items():
            os.sched_setaffinity(thread, processors)


def send_segments(through: socket.socket, data: bytes, size: int) -> None:
    """By one call, which the kernel hands on as one packet (UDP_SEGMENT)."""
    through.sendmsg([data], [(17, _UDP_SEGMENT, struct.pack("=H", size))])


@dataclass
class Numbers:
    """Sequence numbers sent at an even pace from a pod to another, until told to stop."""

    sender: socket.socket
    receiver: socket.socket
    pace: float = 0.0005
    sent: int = 0
    got: list[int] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        """Until so many more have been sent."""
        goal, end = self.sent + more, time.monotonic() + PATIENCE
        while self.sent < goal and time.monotonic() < end:
            time.sleep(0.005)
        assert self.sent >= goal

    def stop(self) -> None:
        """Returns when all have arrived, or none has for long."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(3 * PATIENCE)

    @property
    def lost(self) -> set[int]:
        return set(range(self.sent)) - set(self.got)

    def _send(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            self.sender.send(self.sent.to_bytes(4, "big") + bytes(60))
            self.sent += 1
            now = time.monotonic()
            due = max(due + self.pace, now - _BEHIND)
            time.sleep(max(0.0, due - now))
            while self.sent - len(self.got) > _ON_THE_WAY and not self._stopping.is_set():
                time.sleep(0.001)

    def _receive(self) -> None:
        last = time.monotonic()
        self.receiver.settimeout(0.1)
        while not self._stopping.is_set() or len(self.got) < self.sent:
            try:
                self.got.append(int.from_bytes(self.receiver.recv(2048)[:4], "big"))
                last = time.monotonic()
            except TimeoutError:
                if self._stopping.is_set() and time.monotonic() > last + PATIENCE / 3:
                    return
