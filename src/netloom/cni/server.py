"""The agent's CNI socket: one frame in, one answer out, and nobody waits for anybody else.

    accept ─▶ peer is root? ─▶ frame and descriptor, as they come ─▶ "." ─▶ handler ─▶ answer ─▶ close

Each connection has its own deadline; one that is slow, silent or wrong costs itself only.  A client that has gone before its
request is begun has been told "agent down" and has acted on that, so the request is dropped: `Call.abandoned` asks.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from netloom import unix_sockets
from netloom.cni.protocol import ACCEPTED, REQUEST_LIMIT, SOCKET, Call, pack_answer, request_size, unpack_request

log = logging.getLogger(__name__)

Handler = Callable[[Call, int | None, Callable[[], bool]], Awaitable[tuple[int, bytes]]]
"""(call, descriptor of CNI_NETNS, has the client gone) → exit code and what it prints.  Never raises; does not close the descriptor."""

_REQUEST_SECONDS = 5.0
_ANSWER_SECONDS = 5.0
_BREATH = 0.5  # seconds without accepting, where it failed
_BACKLOG = 1024
_CHUNK = 16 << 10  # a request is some 2 KiB, and room is made for this much each time


class Server:
    def __init__(self, run_dir: str, handler: Handler) -> None:
        self._path, self._handler = f"{run_dir}/{SOCKET}", handler
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = unix_sockets.listen(
            self._path, _BACKLOG
        )  # who holds the journal's lock is the one agent: an old one is stale
        self._inode = os.lstat(self._path).st_ino
        self._listen()

    async def stop(self) -> None:
        """Takes no more, lets what has begun finish."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        with suppress(FileNotFoundError):
            if os.lstat(self._path).st_ino == self._inode:  # not that of an agent that took the place
                os.unlink(self._path)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)

    def _listen(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        """One: for the next the loop calls again."""
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as e:  # out of descriptors: whoever waits is served when there are some again
            log.warning("a connection cannot be accepted: %s", e)
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(_BREATH, self._listen)
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        descriptors: list[int] = []
        try:
            other = unix_sockets.other_end(connection)
            if not other.is_root:
                log.warning("process %d of user %d may not use the CNI socket", other.pid, other.uid)
                return
            call = unpack_request(await _receive(self._loop, connection, descriptors))
            owed = bytearray(ACCEPTED)  # said when the loop turns; mostly the answer is there before, and both go together
            accepting = self._loop.call_soon(_say, connection, owed)
            netns = descriptors[0] if descriptors else None
            exit_code, output = await self._handler(call, netns, lambda: _has_gone(connection))
            accepting.cancel()
            await _answer(self._loop, connection, owed + pack_answer(exit_code, output))
        except (OSError, ValueError, TimeoutError) as e:
            log.debug("a connection ended: %s", e or type(e).__name__)
        finally:
            for fd in descriptors:
                os.close(fd)
            connection.close()


async def _receive(loop: asyncio.AbstractEventLoop, connection: socket.socket, descriptors: list[int]) -> bytes:
    """One whole frame; descriptors that come with it are put into the list as they come, so that somebody closes them."""
    frame, deadline = bytearray(), loop.time() + _REQUEST_SECONDS
    while True:
        try:
            data, ancillary, flags, _ = connection.recvmsg(_CHUNK, 256, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            async with asyncio.timeout_at(deadline):
                await _readable(loop, connection)
            continue
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors += array.array("i", payload[: len(payload) - len(payload) % 4])
        if not data or flags & socket.MSG_CTRUNC or len(descriptors) > 1:
            raise ValueError("the client went away, or sent more than one descriptor")
        frame += data
        size = request_size(bytes(frame[:12]))
        if len(frame) > (REQUEST_LIMIT if size is None else size):
            raise ValueError("more than one frame")
        if len(frame) == size:
            return bytes(frame)


def _say(connection: socket.socket, owed: bytearray) -> None:
    with suppress(OSError):  # a client that has gone is found out by its answer
        connection.send(owed)
    owed.clear()


async def _answer(loop: asyncio.AbstractEventLoop, connection: socket.socket, answer: bytearray) -> None:
    """Mostly in one go; a client that takes its time has a deadline."""
    sent = connection.send(answer)
    if sent < len(answer):
        async with asyncio.timeout(_ANSWER_SECONDS):
            await loop.sock_sendall(connection, answer[sent:])


async def _readable(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.fileno(), _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


def _has_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
