"""The connection: one line at a time to one of the servers, and the next server when it is lost.

A new line begins with a question whose answer says that the right store is there, and writes are allowed to follow.  Reading is
repeated on another line as often as there are servers; a write is sent once, since nobody knows whether one that was not answered
has happened.  After every server has failed there is a pause, twice as long each time, in which all calls fail at once with the
same words; so a cluster that is away is not stormed by those who wait for it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from netloom.datastore.etcd import handshake, messages
from netloom.datastore.etcd.line import Expired, Line, Lost
from netloom.datastore.etcd.target import Server, Target
from netloom.datastore.etcd.wire import NotAMessage
from netloom.errors import DatastoreError, Unavailable

_PAUSE = 0.1, 2.0  # seconds: first, longest
_GREETING = 3.0  # seconds that a server has for its first answer


class Connection:
    """`greeting`: a request to read something; `judge` is given each answer, and raises Unavailable if this is not our store."""

    def __init__(self, target: Target, greeting: bytes, judge: Callable[[messages.Found], None]) -> None:
        self._target, self._greeting, self._judge = target, greeting, judge
        self._servers = random.sample(target.servers, len(target.servers))  # not all agents at one
        self._opening = threading.RLock()
        self._line: Line | None = None
        self._closed = False
        self._pause, self._paused_until, self._failure = _PAUSE[0], 0.0, Unavailable("")

    def line(self) -> Line:
        """The present one, or a new one.  Raises Unavailable."""
        line = self._line
        if line is None:
            with self._opening:
                line = self._line or self._opened()
        return line

    def read(self, method: str, request: bytes) -> bytes:
        """Answer to what changes nothing."""
        for _ in self._servers:
            try:
                return self.write(method, request)
            except Lost:
                continue
        return self.write(method, request)

    def write(self, method: str, request: bytes) -> bytes:
        """Sent once, or not at all."""
        line = self.line()
        try:
            try:
                return line.ask(method, request)
            except Expired:
                line.log_in()
                return line.ask(method, request)
        except Lost:
            self.lose(line)
            raise

    def lose(self, line: Line) -> None:
        """It is of no use: calls on it end, the next ones go to another server."""
        with self._opening:
            if self._line is line:
                self._line = None
                self._servers.append(self._servers.pop(0))
        line.close()

    def close(self) -> None:
        """Waits for nobody who opens a line: they see it then."""
        self._closed = True
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _opened(self) -> Line:
        if self._closed:
            raise Unavailable("the datastore is closed")
        if time.monotonic() < self._paused_until:
            raise Unavailable(str(self._failure), hint=self._failure.hint)
        failures: list[DatastoreError] = []
        for _ in self._target.servers:
            try:
                line = self._greeted(self._servers[0])
            except DatastoreError as e:
                failures.append(e)
                if self._closed:
                    break
                self._servers.append(self._servers.pop(0))
            else:
                self._line, self._pause = line, _PAUSE[0]
                if self._closed:
                    line.close()
                    raise Unavailable("the datastore is closed")
                return line
        self._failure = Unavailable("; ".join(dict.fromkeys(map(str, failures))), hint=failures[0].hint)
        self._paused_until = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _PAUSE[1])
        raise self._failure

    def _greeted(self, server: Server) -> Line:
        line = Line(server, self._target)
        try:
            line.log_in()
            self._judge(messages.found(line.ask(messages.RANGE, self._greeting, _GREETING)))
        except NotAMessage as e:
            line.close()
            raise Unavailable(f"{server} speaks another language than etcd: {e}") from e
        except Lost as e:
            line.close()
            raise handshake.fault(server, self._target, str(e)) or e from e
        except BaseException:
            line.close()
            raise
        return line
