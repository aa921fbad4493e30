"""A lab's processes: started with a mark in their environment, found again by it, ended by descriptor.

    NETLOOM_LAB=demo:agent:node-0        lab, role, place

The kernel hands the environment on to children, so whatever an agent starts is found too, and a `lab up` that was killed
between starting a process and noting it has lost nothing.  A process is opened (pidfd) before its environment is read and
signalled through that descriptor, so a PID that is used again never hits a stranger.  What runs in another PID namespace is
the business of whoever is in there: two containers of one machine may each have a lab `demo`.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

MARK = "NETLOOM_LAB"
_children = set[int]()
"""What `spawn` started in this process; such a child has to be reaped by it."""


@dataclass(frozen=True, slots=True)
class Process:
    """`pidfd` is open as long as the `found` block that gave it.  `started`: ticks since boot."""

    pid: int
    pidfd: int
    role: str
    place: str
    started: int

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)


def marked(lab: str, role: str, place: str = "", base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment with the mark, and without the caller's own settings for Netloom: they would beat a node's file."""
    return {name: value for name, value in base.items() if not name.startswith("NETLOOM_")} | {MARK: f"{lab}:{role}:{place}"}


def spawn(arguments: list[str], environment: Mapping[str, str], log: str, descriptors: Sequence[int] = ()) -> int:
    """Starts a daemon in the calling thread's namespaces, in its own session; output is appended to `log`.  `descriptors` keep
    their numbers in it.  Returns the PID."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_DUP2, number, number) for number in descriptors),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
    )
    _children.add(pid)
    return pid


@contextmanager
def found(lab: str, role: str | None = None, place: str | None = None) -> Iterator[list[Process]]:
    """The lab's living processes, oldest first; never the calling one."""
    with ExitStack() as open_descriptors:
        processes = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with suppress(OSError):
                    pidfd = os.pidfd_open(int(entry))
                    open_descriptors.callback(os.close, pidfd)
                    process = _read(int(entry), pidfd, lab)
                    if process and role in (None, process.role) and place in (None, process.place):
                        processes.append(process)
        yield sorted(processes, key=lambda p: p.started)


def end(
    lab: str,
    grace: float,
    role: str | None = None,
    place: str | None = None,
    first: signal.Signals = signal.SIGTERM,
) -> int:
    """Ends the lab's processes: `first`, SIGKILL after `grace` seconds, again until none is found.  Returns how many there were."""
    ended = 0
    while True:
        with found(lab, role, place) as processes:
            if not processes:
                return ended
            ended += len(processes)
            for process in processes:
                process.signal(first)
            for process in _wait(processes, grace):
                process.signal(signal.SIGKILL)
            _wait(processes, 5.0)
            for process in processes:
                if process.pid in _children and os.waitpid(process.pid, os.WNOHANG)[0]:
                    _children.discard(process.pid)


def _wait(processes: Sequence[Process], seconds: float) -> list[Process]:
    """Those still alive afterwards.  A pidfd becomes readable when its process ends."""
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for process in processes:
            selector.register(process.pidfd, selectors.EVENT_READ, process)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                selector.unregister(key.fd)
        return [key.data for key in selector.get_map().values()]


def _read(pid: int, pidfd: int, lab: str) -> Process | None:
    with open(f"/proc/{pid}/environ", "rb") as file:
        variables = file.read().split(b"\0")
    prefix = f"{MARK}={lab}:".encode()
    mark = next((v for v in variables if v.startswith(prefix)), None)
    if mark is None or os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
        return None
    role, _, place = mark[len(prefix) :].decode(errors="replace").partition(":")
    with open(f"/proc/{pid}/stat", "rb") as file:
        started = int(file.read().rpartition(b")")[2].split()[19])  # field 22, starttime: proc(5)
    return Process(pid, pidfd, role, place, started)
