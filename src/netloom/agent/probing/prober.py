"""The prober: sends questions to other nodes, waits for their answers, and answers theirs.

One UDP socket per family does both, from and to the same port on every node.  Where firewalls take in only what was asked for, the
questions of one side so pass as answers to those of the other.  An answer may come back by another way than its question took.  That is
what a change from one tunnel to another needs to know: does what I send by this one arrive?  An answer is small, whatever the size of
the question: each direction is tried by its own side.

The tricky thing is what answers whom.  Answers are sent from the address that was asked, and say which node it is that
answers, and which address it sees: where that is another one, a translator stands between, or two nodes have one address.

Strangers get no answer, answers are no larger than questions, and when more comes than nodes could ask the socket is not read
for a while: a flood fills its buffer, and costs the agent nothing.  A connection is for one question: each sender has one, and two
seconds to ask.  What is behind a node's own address need not be its agent (its pods, translated), so the asker takes a lack of
answers for a fault of the way only if the kernel at the other end has not acknowledged what it was sent.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from netloom.agent.probing import frames
from netloom.agent.probing.frames import SMALL, Answer, Known, Question
from netloom.agent.probing.sockets import (
    FAMILY,
    RESET,
    Ancillary,
    datagram_socket,
    on_their_way,
    resent,
    reset,
    sent_from,
    stream_listener,
    unchecked,
)
from netloom.agent.probing.ways import Way
from netloom.errors import ConfigError
from netloom.model.addresses import Address

log = logging.getLogger(__name__)

_PATIENCE = (0.5, 1.0, 2.0)
"""Seconds that each of the tries waits for an answer: the agent at the other end may be in the middle of a pass."""
_STREAM = 1 << 16  # bytes by TCP: a first burst, and the windows that follow
_STREAM_CONNECT, _STREAM_SECONDS = 3.0, 6.0
_AT_ONCE = 64  # datagrams that are read in one go
_REST = 0.05  # seconds that the socket is left alone after that many
_CONNECTIONS = 32  # served at a time, one for each sender
_ASKED_SECONDS, _SERVED_SECONDS = 2.0, 10.0  # until a connection's question is known, and until it is answered
_TURNED_AWAY = 0.001  # seconds of rest after each connection that is one too many
_MOST_RESENT = 8  # segments of a stream, of some 46; congestion costs one or two, and ends
_HEADERS = {4: 28, 6: 48}  # IP and UDP


class Failure(enum.Enum):
    """Why there is no answer.  UNSENT: this kernel did not send it, and `reason` says why.  CLOSED: nobody took the connection.
    STALLED: it was taken, and then little or nothing came through.  CLOSED also: all came through, and nobody answered it."""

    UNSENT = "cannot be sent"
    SILENT = "no answer"
    CLOSED = "no connection"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a question is for."""

    name: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Echo:
    """What came back.  `node`: who answers; `seen`: the address that it saw; `hops`: routers in between, -1 if not known."""

    failure: Failure | None = None
    reason: str = ""
    node: str = ""
    seen: Address | None = None
    hops: int = -1

    def __bool__(self) -> bool:
        return self.failure is None


class Prober:
    """For the running loop.  `known`: incarnations of the cluster's nodes by name, this one included."""

    def __init__(self, node: str, node_id: str, port: int, known: Known) -> None:
        self._node, self._id, self._port, self._known = node, node_id, port, known
        self._loop = asyncio.get_running_loop()
        self._datagrams: dict[int, socket.socket] = {}
        self._listeners: list[socket.socket] = []
        self._waiting: dict[bytes, asyncio.Future[Echo]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._served: set[Address] = set()
        self._buffer = bytearray(1 << 16)

    def open(self, versions: Iterable[int]) -> None:
        """Begins to answer in these families.  Raises ConfigError: the port is somebody else's."""
        try:
            for version in versions:
                self._datagrams[version] = datagram_socket(version, self._port)
                self._listeners.append(stream_listener(version, self._port))
        except OSError as e:
            self.close()
            hint = "set another probePort on every node, or 0 for no probes; ss -lnp shows who has it"
            raise ConfigError(f"port {self._port}: {e.strerror}", path="probePort", hint=hint) from e
        for version, sock in self._datagrams.items():
            self._loop.add_reader(sock, self._read, version, sock)
        for listener in self._listeners:
            self._keep(self._serve(listener))

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for sock in self._datagrams.values():
            self._loop.remove_reader(sock)
        for sock in (*self._datagrams.values(), *self._listeners):
            sock.close()
        self._datagrams, self._listeners = {}, []

    # asking

    async def ask(
        self, peer: Peer, way: Way, size: int = SMALL, *, checksum: bool = True, patience: tuple[float, ...] = _PATIENCE
    ) -> Echo:
        """One packet of `size` bytes, IP header included, that nobody may cut; once more after each wait in vain.
        `checksum` False: its UDP checksum is left out, so that nothing on the way has to compute one."""
        version = way.destination.version
        nonce = os.urandom(8)
        asked = frames.encode(Question(nonce, self._node, peer.name, size - _HEADERS[version]), self._id)
        future: asyncio.Future[Echo] = self._loop.create_future()
        self._waiting[nonce] = future
        try:
            for seconds in patience:
                try:
                    self._send(way, asked, checksum=checksum)
                except OSError as e:
                    return Echo(Failure.UNSENT, e.strerror or str(e))
                await asyncio.wait((future,), timeout=seconds)
                if future.done():
                    return future.result()
        finally:
            del self._waiting[nonce]
        return Echo(Failure.SILENT)

    async def stream(self, peer: Peer, way: Way) -> Echo:
        """64 KiB by TCP, which leave in segments as large as the kernel makes them.  Both directions take this way."""
        asked = frames.encode(Question(os.urandom(8), self._node, peer.name, _STREAM), self._id)
        with socket.socket(FAMILY[way.destination.version], socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            # what was not delivered when we give up is not tried again for minutes
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            try:
                if way.device:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, way.device.encode())
                sock.bind((str(way.source), 0))
                async with asyncio.timeout(_STREAM_CONNECT):
                    await self._loop.sock_connect(sock, (str(way.destination), self._port))
            except (OSError, TimeoutError) as e:
                return Echo(Failure.CLOSED, getattr(e, "strerror", None) or "no answer")
            try:
                async with asyncio.timeout(_STREAM_SECONDS):
                    await self._loop.sock_sendall(sock, asked)
                    told = await self._loop.sock_recv(sock, frames.LONGEST)
            except (OSError, TimeoutError):
                told = b""
            state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            if resent(state) > (_MOST_RESENT if told or not on_their_way(state) else 0):
                return Echo(Failure.STALLED)  # also if it came through, a segment at a time, after a pause each
        if not told:
            return Echo(Failure.CLOSED, "taken, and not answered")
        return self._echo(frames.answer(told, self._known)) or Echo(Failure.CLOSED, "taken by somebody else")

    def _send(self, way: Way, data: bytes, *, checksum: bool) -> None:
        version = way.destination.version
        sock = self._datagrams.get(version)
        if sock is None:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        index = socket.if_nametoindex(way.device) if way.device else 0
        target = (str(way.destination), self._port)
        if checksum:
            sock.sendmsg([data], [sent_from(way.source, index)], 0, target)
            return
        with unchecked(sock, version):
            sock.sendmsg([data], [sent_from(way.source, index)], 0, target)

    # what comes in

    def _read(self, version: int, sock: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                length, ancillary, _, sender = sock.recvmsg_into([self._buffer], 256)
            except BlockingIOError:
                return
            except OSError as e:
                log.debug("a probe could not be read: %s", e)  # an ICMP error for one that was sent before
                continue
            data = bytes(memoryview(self._buffer)[: min(length, frames.LONGEST)])
            self._take(sock, data, length, sender, Ancillary.of(ancillary))
        self._loop.remove_reader(sock)
        self._loop.call_later(_REST, self._read_again, version, sock)

    def _read_again(self, version: int, sock: socket.socket) -> None:
        if self._datagrams.get(version) is sock:
            self._loop.add_reader(sock, self._read, version, sock)

    def _take(self, sock: socket.socket, data: bytes, length: int, sender: Any, told: Ancillary) -> None:
        # Any: a socket address is of each family's own shape
        if (answer := frames.answer(data, self._known)) is not None:
            future = self._waiting.get(answer.nonce)
            if future is not None and not future.done():
                future.set_result(self._echo(answer) or Echo(Failure.SILENT))
            return
        asked = frames.question(data, self._known)
        if asked is None or length < asked.size or told.asked is None:
            return
        reply = self._answer(asked, ipaddress.ip_address(sender[0].partition("%")[0]), told.hops)
        if len(reply) <= length:
            with suppress(OSError):  # who asked will ask again
                sock.sendmsg([reply], [sent_from(told.asked, told.link)], 0, sender)

    def _answer(self, asked: Question, seen: Address, hops: int) -> bytes:
        return frames.encode(Answer(asked.nonce, self._node, seen.packed, hops), self._id)

    def _echo(self, answer: Answer | None) -> Echo | None:
        if answer is None or len(answer.seen) not in (4, 16):
            return None
        return Echo(node=answer.sender, seen=ipaddress.ip_address(answer.seen), hops=answer.hops)

    async def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, (name, *_) = await self._loop.sock_accept(listener)
            except OSError as e:
                log.debug("a probe's connection was not taken: %s", e)
                await asyncio.sleep(_REST)
                continue
            sender = ipaddress.ip_address(name.partition("%")[0])
            if sender in self._served or len(self._served) == _CONNECTIONS:
                reset(connection)
                await asyncio.sleep(_TURNED_AWAY)
                continue
            self._served.add(sender)
            self._keep(self._serve_one(connection, sender))

    async def _serve_one(self, connection: socket.socket, sender: Address) -> None:
        try:
            with connection, suppress(OSError, TimeoutError):
                connection.setblocking(False)
                async with asyncio.timeout(_SERVED_SECONDS):
                    await self._answer_stream(connection, sender)
        finally:
            self._served.discard(sender)

    async def _answer_stream(self, connection: socket.socket, sender: Address) -> None:
        """Whoever asks by TCP sends more than the longest frame."""
        data = bytearray()
        async with asyncio.timeout(_ASKED_SECONDS):
            while len(data) < frames.LONGEST and (more := await self._loop.sock_recv(connection, frames.LONGEST - len(data))):
                data += more
        asked = frames.question(bytes(data), self._known)
        missing = asked.size - len(data) if asked else 0
        while missing > 0 and (more := await self._loop.sock_recv(connection, min(missing, 1 << 16))):
            missing -= len(more)
        if asked and not missing:
            await self._loop.sock_sendall(connection, self._answer(asked, sender, -1))

    def _keep(self, work: Coroutine[object, object, None]) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
