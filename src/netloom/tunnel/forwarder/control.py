"""Control: a forwarder's unix socket, RUN_DIR/loom.udp.sock, over which root tells it what it knows.

One thread does everything, so a request is carried out between two packets; it comes in pieces, and nobody waits for the rest of one.
Whoever is slow, silent or wrong costs itself only.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from netloom import unix_sockets
from netloom.tunnel.forwarder import messages
from netloom.tunnel.forwarder.messages import Answer, Refused, Request

log = logging.getLogger(__name__)

_CHUNK = 256 << 10
_MOST = 16  # connections
_ANSWER_SECONDS = 2.0

Carrying = Callable[[Request, "Connection"], tuple[Answer, Sequence[int]]]
"""→ the answer, and descriptors that go with it.  ValueError is answered with its words."""


@dataclass(eq=False, slots=True)
class Connection:
    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)


class Control:
    """`changed` is told which descriptors are to be listened to, and which no more.  The socket lies at a name of its own until `take_place`."""

    def __init__(
        self, path: str, carry: Carrying, changed: Callable[[int, bool], None], gone: Callable[[Connection], None]
    ) -> None:
        self._path, self._carry, self._changed, self._gone = path, carry, changed, gone
        self._connections: dict[int, Connection] = {}
        self._own = f"{path}.{os.getpid()}"
        self._listener = unix_sockets.listen(self._own, _MOST)
        changed(self._listener.fileno(), True)

    def take_place(self) -> None:
        """Of whoever was there: from now on everybody finds this one."""
        os.rename(self._own, self._path)

    def discard(self) -> None:
        """Nobody is to find this one."""
        with suppress(FileNotFoundError):
            os.unlink(self._own)

    def readable(self, fd: int) -> None:
        if fd == self._listener.fileno():
            self._accept()
        elif connection := self._connections.get(fd):
            try:
                self._receive(connection)
            except (OSError, ValueError) as e:
                log.debug("a connection ended: %s", e)
                self._close(connection)

    def close(self) -> None:
        for connection in list(self._connections.values()):
            self._close(connection)
        self._listener.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as e:
            log.warning("a connection cannot be accepted: %s", e)
            return
        other = unix_sockets.other_end(connection)
        if not other.is_root or len(self._connections) >= _MOST:
            log.warning("process %d of user %d may not use the forwarder's socket, or there are too many", other.pid, other.uid)
            connection.close()
            return
        connection.setblocking(False)
        self._connections[connection.fileno()] = Connection(connection)
        self._changed(connection.fileno(), True)

    def _receive(self, connection: Connection) -> None:
        data = connection.socket.recv(_CHUNK)
        if not data:
            self._close(connection)
            return
        connection.buffer += data
        while (document := messages.taken(connection.buffer)) is not None:
            try:
                answer, descriptors = self._carry(messages.request(document), connection)
            except ValueError as e:
                answer, descriptors = Refused(reason=str(e)), ()
            _send(connection.socket, messages.frame(answer), descriptors)

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is None:
            return
        self._changed(connection.socket.fileno(), False)
        connection.socket.close()
        self._gone(connection)


def _send(to: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    """A table of thousands may take more than the socket holds; whoever asked for it reads it."""
    to.settimeout(_ANSWER_SECONDS)
    try:
        sent = socket.send_fds(to, [data], list(descriptors)) if descriptors else 0
        if sent < len(data):  # even nothing cannot be sent to who has read everything and gone
            to.sendall(data[sent:])
    finally:
        to.setblocking(False)
