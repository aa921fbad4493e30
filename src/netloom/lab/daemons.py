"""Starting daemons in namespaces, several at once, and waiting until each says that it is ready.

Readiness is systemd's protocol (sd_notify(3)): a datagram READY=1 to the socket that $NOTIFY_SOCKET names.  A daemon that
ends before that, or says nothing in time, is an error that quotes the end of its log.

A child is born in the namespaces of the thread that makes it; so the starting thread enters the place, starts, and leaves.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field

from netloom.dataplane import netns
from netloom.errors import NetloomError
from netloom.lab.processes import marked, spawn

_READY = b"READY=1"
_LOG_LINES = 8


@dataclass(frozen=True, slots=True)
class Daemon:
    """`folder` takes its notification socket.  `namespace`: a path, or None for the caller's own.  `descriptors` are handed on."""

    role: str
    place: str
    arguments: Sequence[str]
    folder: str
    log: str
    namespace: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: Sequence[int] = ()

    def __str__(self) -> str:
        return f"{self.role} of {self.place}" if self.place else self.role


def start(lab: str, daemons: Sequence[Daemon], timeout: float = 120.0) -> None:
    """Returns when all are ready; raises NetloomError for the first that fails.  The others go on: `down` finds them."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for daemon in daemons:
            listener, pidfd = _start(lab, daemon, stack)
            selector.register(listener, selectors.EVENT_READ, daemon)
            selector.register(pidfd, selectors.EVENT_READ, daemon)
        waiting = set(map(id, daemons))
        deadline = time.monotonic() + timeout
        while waiting:
            events = selector.select(max(deadline - time.monotonic(), 0))
            if not events:
                slow = next(d for d in daemons if id(d) in waiting)
                raise _failure(slow, f"is not ready after {timeout:.0f} s")
            for key, _ in sorted(events, key=lambda event: isinstance(event[0].fileobj, int)):
                if isinstance(key.fileobj, socket.socket):
                    if _READY in key.fileobj.recv(4096).splitlines():
                        waiting.discard(id(key.data))
                elif id(key.data) in waiting:
                    raise _failure(key.data, "ended before it was ready")
                else:
                    selector.unregister(key.fileobj)


def _start(lab: str, daemon: Daemon, stack: ExitStack) -> tuple[socket.socket, int]:
    """Its notification socket and its pidfd, closed with `stack`."""
    path = f"{daemon.folder}/notify"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
    with suppress(FileNotFoundError):
        os.unlink(path)
    listener.bind(path)
    environment = marked(lab, daemon.role, daemon.place) | {**daemon.environment, "NOTIFY_SOCKET": path}
    with ExitStack() as inside:
        if daemon.namespace:
            namespace = netns.open_netns(daemon.namespace)
            inside.callback(os.close, namespace)
        inside.enter_context(netns.entered(namespace) if daemon.namespace else nullcontext())
        pid = spawn(list(daemon.arguments), environment, daemon.log, daemon.descriptors)
    pidfd = os.pidfd_open(pid)
    stack.callback(os.close, pidfd)
    return listener, pidfd


def _failure(daemon: Daemon, what: str) -> NetloomError:
    with open(daemon.log, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()[-_LOG_LINES:]
    return NetloomError("\n    ".join((f"{daemon} {what}", *lines)), hint=f"its log is {daemon.log}")
