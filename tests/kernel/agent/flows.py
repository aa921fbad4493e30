"""Traffic that goes on while something happens: numbered datagrams there and back, and one TCP connection.

with Flow(source, target, address) as flow:
    ...
    flow.go_on()
assert flow.faults == []
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from typing import Self

from netloom.dataplane import netns
from tests.waiting import eventually

_EVERY = 0.005  # seconds
_PATIENCE = 10.0  # seconds for one answer: a datagram that is lost never comes


class Flow:
    """From one namespace to `address` in another; descriptors."""

    def __init__(self, source: int, target: int, address: str) -> None:
        self._address, self._end = address, threading.Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sockets = ExitStack()
        with netns.entered(target):
            self._echo = self._sockets.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            listener = self._sockets.enter_context(socket.create_server((address, 0), family=family))
            self._echo.bind((address, 0))
        with netns.entered(source):
            self._datagrams = self._sockets.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            self._stream = self._sockets.enter_context(socket.create_connection(listener.getsockname()[:2], _PATIENCE))
        self._served, _ = listener.accept()
        self._sockets.enter_context(self._served)
        self._datagrams.connect(self._echo.getsockname()[:2])
        for one in (self._datagrams, self._stream):
            one.settimeout(_PATIENCE)
        self._echo.settimeout(0.1)
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._answer, self._serve, self._send, self._ask)
        ]
        self.sent, self.faults = 0, list[str]()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads[2:]:
            thread.join()
        with suppress(OSError):  # it is closed already
            self._stream.shutdown(socket.SHUT_WR)
        for thread in self._threads[:2]:
            thread.join()
        self._sockets.close()

    def go_on(self, answers: int = 50) -> None:
        """Returns when so many more questions have had their answer, or something is amiss."""
        enough = self.sent + answers
        eventually(lambda: self.sent >= enough or self.faults, 60)

    def _answer(self) -> None:
        while not self._end.is_set():
            with suppress(TimeoutError):
                data, sender = self._echo.recvfrom(64)
                self._echo.sendto(data, sender)

    def _serve(self) -> None:
        with suppress(OSError):
            while data := self._served.recv(64):
                self._served.sendall(data)

    def _send(self) -> None:
        self._exchange(self._datagrams, "UDP")

    def _ask(self) -> None:
        self._exchange(self._stream, "TCP")

    def _exchange(self, one: socket.socket, protocol: str) -> None:
        """One question at a time, so that an answer that is missing is missing."""
        number = 0
        while not self._end.wait(_EVERY):
            number += 1
            question = b"%016d" % number
            try:
                one.sendall(question)
                while (answer := one.recv(64)) != question:
                    self.faults.append(f"{protocol} {self._address}: {answer!r} for {question!r}")
            except OSError as e:
                self.faults.append(f"{protocol} {self._address}, question {number}, {time.strftime('%X')}: {e!r}")
                if protocol == "TCP":
                    return
            self.sent += 1
