"""Forwarding: this node's forwarders (`tunnel.forwarder`), each a process of its own, and what they are told.

    Tunnel wanted ─▶ one answers at RUN_DIR/loom.udp.sock? ──yes──▶ of this version, address and port? ──yes──▶ told what changed
                              no ─▶ started                                    no ─▶ a successor is started, and takes over

A forwarder outlives the agent, and is found again by its socket.  As long as the connection to it stands it lives; when that ends,
a pass is called for, which finds a successor, or starts another.  Starting takes a moment, in which the loop is not held up: the pass
says that the tunnel is not ready, and is made again when it is.

What a forwarder knows is read once, and then compared with what is wanted; its table has a number that grows with each change, so it
is seen if somebody else has made one.
"""

from __future__ import annotations

import asyncio
import errno
import glob
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import netloom
from netloom.agent.scopes import scoped
from netloom.errors import DataplaneError
from netloom.model.addresses import Address, Prefix
from netloom.model.desired import Tunnel
from netloom.tunnel.forwarder import messages
from netloom.tunnel.forwarder.client import Client, path
from netloom.tunnel.forwarder.messages import State

log = logging.getLogger(__name__)

_LOOK = 0.05  # seconds between two looks whether one that was started answers
_PATIENCE = 30.0  # seconds that a start may take
_AGAIN = 1.0, 30.0  # seconds until one that has ended at once is started again: first, longest
_SECONDS = 1.0  # that a forwarder may take to answer, while the loop waits
_SILENCES = 3  # times that it may take longer
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)
_MARK = "NETLOOM_LAB"  # of a lab's processes: lab, role, place


@dataclass(slots=True)
class _Known:
    """What a forwarder's table is, as of `number`."""

    number: int
    mtu: int
    tunnels: dict[Prefix, Address]
    senders: dict[Address, Address | None]


@dataclass(slots=True)
class _Forwarder:
    """`child`: one that was started and does not answer yet.  `patience`: until the next start, when this one fails.  `process`: a
    descriptor of the one that has the socket; `silent`: how often in a row it has not."""

    device: str
    wanted: Tunnel
    client: Client | None = None
    known: _Known | None = None
    child: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    not_before: float = 0.0
    patience: float = _AGAIN[0]
    failure: str = ""
    process: int | None = None
    silent: int = 0
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)


class Forwarding:
    """For the loop that made it.  `changed` is called when a pass would find something new."""

    def __init__(self, run_dir: str, changed: Callable[[], None]) -> None:
        self._run_dir, self._changed = run_dir, changed
        self._loop = asyncio.get_running_loop()
        self._forwarders: dict[str, _Forwarder] = {}
        self._inherited: set[str] | None = None
        """Devices whose forwarder an agent before this one has started; looked for once."""
        self._looking: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Forwarders stay."""
        for each in self._forwarders.values():
            self._part(each)
            self._forget(each)
        if self._looking:
            self._looking.cancel()

    def differ(self, want: Mapping[str, Tunnel]) -> list[str]:
        """Those of them that have no forwarder, or one that is not as it should be."""
        found = []
        for device, tunnel in want.items():
            forwarder = self._forwarders.setdefault(device, _Forwarder(device, tunnel))
            forwarder.wanted = tunnel
            self._reap(forwarder)
            if forwarder.client is None:
                self._find(forwarder)
            if forwarder.client is None or not self._is_right(forwarder):
                found.append(device)
        return found

    def start(self, device: str) -> None:
        """A forwarder, or the successor of one.  Raises DataplaneError: there is none yet, or it is not as it should be."""
        forwarder = self._forwarders[device]
        if forwarder.client is not None and forwarder.known is not None and forwarder.known.mtu != forwarder.wanted.mtu:
            self.change(device)
        if forwarder.client is None or not self._is_right(forwarder):
            self._start(forwarder)
            raise _error(device, forwarder.failure or "a forwarder is starting")

    def states(self) -> list[State]:
        """Of all that answer, with what went to each peer and came from it."""
        found = []
        for each in self._forwarders.values():
            if each.client is not None:
                with suppress(DataplaneError):
                    found.append(each.client.state(peers=True))
        return found

    def known(self) -> dict[str, _Known]:
        """By device, what each forwarder that answers knows."""
        return {device: known for device, each in self._forwarders.items() if (known := self._read(each)) is not None}

    def _read(self, forwarder: _Forwarder) -> _Known | None:
        if forwarder.client is None:
            return None
        try:
            if forwarder.known is None or forwarder.client.state().number != forwarder.known.number:
                whole = forwarder.client.read()
                tunnels, senders = messages.prefixes(whole.tunnels), messages.senders(whole.senders, whole.former)
                forwarder.known = _Known(whole.number, whole.mtu, tunnels, senders)
        except DataplaneError:
            self._part(forwarder)
            raise
        return forwarder.known

    def change(
        self,
        device: str,
        put: Mapping[Prefix, Address] | None = None,
        delete: frozenset[Prefix] = frozenset(),
        believe: Mapping[Address, Address | None] | None = None,
        disbelieve: frozenset[Address] = frozenset(),
    ) -> None:
        """Raises DataplaneError."""
        forwarder = self._forwarders.get(device)
        known = self._read(forwarder) if forwarder else None
        if forwarder is None or forwarder.client is None or known is None:
            raise _error(device, "no forwarder answers")
        try:
            number = forwarder.client.change(put, delete, believe, disbelieve, forwarder.wanted.mtu)
        except DataplaneError:
            self._part(forwarder)
            raise
        known.tunnels.update(put or {})
        for prefix in delete:
            known.tunnels.pop(prefix, None)
        known.senders.update(believe or {})
        for address in disbelieve:
            known.senders.pop(address, None)
        known.mtu = forwarder.wanted.mtu
        if number == known.number + 1:
            known.number = number
        else:  # somebody else has changed it, too
            forwarder.known = None

    def running(self) -> set[str]:
        """Devices whose forwarder has a socket, or is about to."""
        if self._inherited is None:
            sockets = glob.glob(f"{glob.escape(self._run_dir)}/loom.*.sock")
            self._inherited = {os.path.basename(name).removesuffix(".sock") for name in sockets}
        return self._inherited | self._forwarders.keys()

    def _is_right(self, forwarder: _Forwarder) -> bool:
        assert forwarder.client is not None
        try:
            state = forwarder.client.state()
        except DataplaneError as e:
            self._part(forwarder)
            self._not_answered(forwarder, e)
            return False
        forwarder.silent = 0
        known, wanted = self._read(forwarder), forwarder.wanted
        ours = netloom.__version__, str(wanted.local), wanted.port, wanted.mtu, list(map(str, wanted.also))
        return known is not None and (state.version, state.local, state.port, known.mtu, state.also) == ours

    def _not_answered(self, forwarder: _Forwarder, error: DataplaneError) -> None:
        """One that hangs carries nothing, and holds what another one needs."""
        forwarder.silent += error.errno == errno.ETIMEDOUT
        if forwarder.silent >= _SILENCES and forwarder.process is not None:
            log.warning("%s: it is ended", error)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(forwarder.process, signal.SIGKILL)

    def _find(self, forwarder: _Forwarder) -> None:
        try:
            client = Client(path(self._run_dir, forwarder.device), _SECONDS)
        except DataplaneError as e:
            if e.errno not in _NOBODY:
                raise
            return
        forwarder.client, forwarder.known = client, None
        forwarder.failure, forwarder.patience = "", _AGAIN[0]
        self._loop.add_reader(client.fileno(), self._ended, forwarder)
        self._forget(forwarder)
        try:
            forwarder.process = os.pidfd_open(client.pid)
            state = client.state()
        except ProcessLookupError:
            self._part(forwarder)
        except DataplaneError as e:
            self._part(forwarder)
            self._not_answered(forwarder, e)
        else:
            forwarder.silent = 0
            log.info("forwarder of %s: process %d, by %s", forwarder.device, state.pid, state.bulk)

    def _ended(self, forwarder: _Forwarder) -> None:
        if forwarder.client is not None and forwarder.client.ended:
            self._part(forwarder)
            self._changed()

    @staticmethod
    def _forget(forwarder: _Forwarder) -> None:
        if forwarder.process is not None:
            os.close(forwarder.process)
        forwarder.process = None

    def _part(self, forwarder: _Forwarder) -> None:
        """The connection is of no more use."""
        if forwarder.client is not None:
            self._loop.remove_reader(forwarder.client.fileno())
            forwarder.client.close()
        forwarder.client = forwarder.known = None

    def stop(self, device: str) -> None:
        """Also one that an agent before this one has started."""
        if self._inherited is not None:
            self._inherited.add(device)  # until it has ended
        forwarder = self._forwarders.pop(device, None)
        if forwarder is not None:
            self._part(forwarder)
            self._forget(forwarder)
            for child in forwarder.children:
                child.terminate()
                self._bury(child)
        try:
            with Client(path(self._run_dir, device), _SECONDS) as client:
                client.stop()
        except DataplaneError as e:
            if e.errno not in _NOBODY:
                raise
        with suppress(FileNotFoundError):
            os.unlink(path(self._run_dir, device))
        if self._inherited is not None:
            self._inherited.discard(device)
        log.info("forwarder of %s: ended, for nobody wants it", device)

    def _bury(self, child: subprocess.Popen[bytes]) -> None:
        """One that was told to end."""
        if child.poll() is None:
            self._loop.call_later(_LOOK, self._bury, child)

    def _start(self, forwarder: _Forwarder) -> None:
        """One is enough, and not at once again after one that has failed."""
        now = self._loop.time()
        if forwarder.child is not None or now < forwarder.not_before:
            return
        own = forwarder.wanted
        words = [sys.executable, "-m", "netloom", "forwarder", "--device", forwarder.device, "--local", str(own.local)]
        words += ["--port", str(own.port), "--run-dir", self._run_dir, *(w for a in own.also for w in ("--also", str(a)))]
        if not forwarder.failure:  # else the next one shall not depend on who gives out scopes
            words = scoped(f"netloom-forwarder-{forwarder.device}", words)
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        if _MARK in environment:
            environment[_MARK] = environment[_MARK].replace(":agent:", ":forwarder:", 1)
        try:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        except OSError as e:
            raise _error(forwarder.device, f"a forwarder cannot be started: {e.strerror}", e.errno or 0) from e
        forwarder.child, forwarder.since = child, now
        forwarder.children.append(child)
        if self._looking is None:
            self._looking = self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        """Whether those that were started answer, or have ended."""
        self._looking = None
        for forwarder in self._forwarders.values():
            if forwarder.child is None:
                continue
            self._reap(forwarder)
            if forwarder.client is None and os.path.exists(path(self._run_dir, forwarder.device)):
                with suppress(DataplaneError):  # not yet
                    self._find(forwarder)
            if forwarder.client is not None and forwarder.child is not None:
                with suppress(DataplaneError):
                    if forwarder.client.state().pid == forwarder.child.pid:
                        forwarder.child = None
            if forwarder.child is None:
                self._changed()
            elif self._loop.time() > forwarder.since + _PATIENCE:
                forwarder.child.kill()
        if any(forwarder.child for forwarder in self._forwarders.values()):
            self._looking = self._loop.call_later(_LOOK, self._look)

    def _reap(self, forwarder: _Forwarder) -> None:
        """Those that have ended; one that had not answered before is a failure."""
        for child in forwarder.children[:]:
            if child.poll() is None:
                continue
            forwarder.children.remove(child)
            if child is forwarder.child:
                forwarder.child = None
                forwarder.failure = f"the forwarder ended with {child.returncode}: the agent's log says why"
                forwarder.not_before = self._loop.time() + forwarder.patience
                self._loop.call_later(forwarder.patience, self._changed)
                forwarder.patience = min(2 * forwarder.patience, _AGAIN[1])


def _error(device: str, reason: str, code: int = 0) -> DataplaneError:
    return DataplaneError("forwarder", device, reason, errno=code)
