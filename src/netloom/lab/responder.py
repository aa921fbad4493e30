"""A program that answers inside many sandboxes: it says who it is and whom it sees.

    $ curl 10.244.0.3:8080
    pod-1 sees you as 10.244.1.2

One process serves all pods of a lab: a socket belongs for good to the namespace that it was opened in, so the process enters
each sandbox once, opens its sockets there, and then waits for all of them together.  To the pods it is a container of theirs.

    python -m netloom.lab.responder [--bind ADDRESS] [--port PORT] [--with-stdin] NAME=DESCRIPTOR...

It prints the ports, one per name, when it listens.  TCP answers as soon as something (or the end) is received, over HTTP if
that is what was spoken; UDP answers each datagram, with the datagram's own bytes after the line, so a caller can tell answers apart.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import selectors
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from netloom.agent.notify import notify
from netloom.dataplane import netns

_CONNECTIONS = 512  # that say nothing; the oldest is dropped for a new one


class Responder:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[socket.socket] = deque()

    def listen(self, name: str, namespace: int, address: str, port: int) -> int:
        """Opens TCP and UDP on the same port inside `namespace`; returns the port."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.entered(namespace):
            tcp = socket.socket(family, socket.SOCK_STREAM)
            udp = socket.socket(family, socket.SOCK_DGRAM)
        for one in (tcp, udp):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((address, port))
        tcp.listen(128)
        chosen: int = tcp.getsockname()[1]
        udp.bind((address, chosen))
        self._register(tcp, partial(self._accept, name, tcp))
        self._register(udp, partial(_answer_datagram, name, udp))
        return chosen

    def serve(self, until: int | None = None) -> None:
        """Until the descriptor `until` is readable (its other end was closed), or for ever."""
        if until is not None:
            self._selector.register(until, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fd == until:
                    return
                with suppress(OSError):  # the peer went away; there is nobody left to tell
                    key.data()

    def _register(self, one: socket.socket, act: Callable[[], None]) -> None:
        self._selector.register(one, selectors.EVENT_READ, act)

    def _accept(self, name: str, listener: socket.socket) -> None:
        connection, peer = listener.accept()
        connection.setblocking(False)
        if len(self._waiting) == _CONNECTIONS:
            self._close(self._waiting[0])
        self._waiting.append(connection)
        self._register(connection, partial(self._answer_stream, name, connection, peer[0]))

    def _answer_stream(self, name: str, connection: socket.socket, peer: str) -> None:
        try:
            request = connection.recv(4096)
            line = greeting(name, peer)
            head = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(line)
            connection.sendall(head + line if b" HTTP/1" in request else line)
            connection.shutdown(socket.SHUT_WR)
        finally:
            self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self._waiting.remove(connection)
        self._selector.unregister(connection)
        connection.close()


def greeting(name: str, peer: str) -> bytes:
    """The whole answer: one line.  `peer` is what the socket says; an IPv4 address may come in IPv6's clothes."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return f"{name} sees you as {mapped or address}\n".encode()


def _answer_datagram(name: str, udp: socket.socket) -> None:
    data, peer = udp.recvfrom(2048)
    udp.sendto(greeting(name, peer[0]) + data, peer)


def main() -> None:
    parser = argparse.ArgumentParser(prog="netloom.lab.responder")
    parser.add_argument("--bind", default="::")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--with-stdin", action="store_true", help="end when standard input is closed")
    parser.add_argument("sandboxes", nargs="+", metavar="NAME=DESCRIPTOR")
    options = parser.parse_args()
    responder, ports = Responder(), []
    for sandbox in options.sandboxes:
        name, _, descriptor = sandbox.rpartition("=")
        ports.append(responder.listen(name, int(descriptor), options.bind, options.port))
        os.close(int(descriptor))
    print(*ports, flush=True)
    notify("READY=1")
    responder.serve(until=sys.stdin.fileno() if options.with_stdin else None)


if __name__ == "__main__":
    main()
