"""A forwarder of one device: the process, the connection to it, and what is known of its table.

A forwarder outlives the agent, and is found again by its socket.  As long as the connection to it stands it lives.  One that was started
takes a moment until it answers, in which the loop is not held up.  One that ends before it has answered is started again, later and
later; one that hangs is ended: it carries nothing, and holds what another one needs.

What a forwarder knows is read once, and then compared with what is wanted; its table has a number that grows with each change, so it
is seen if somebody else has made one.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import netloom
from netloom.agent.scopes import scoped
from netloom.errors import DataplaneError
from netloom.model.addresses import Address, Prefix
from netloom.model.desired import Tunnel
from netloom.tunnel.forwarder import messages
from netloom.tunnel.forwarder.client import Client, path
from netloom.tunnel.forwarder.messages import State

log = logging.getLogger(__name__)

LOOK = 0.05  # seconds between two looks whether one that was started answers
SECONDS = 1.0  # that a forwarder may take to answer, while the loop waits
NOBODY = (errno.ENOENT, errno.ECONNREFUSED)
_PATIENCE = 30.0  # seconds that a start may take
_AGAIN = 1.0, 30.0  # seconds until one that has ended at once is started again: first, longest
_SILENCES = 3  # times that it may take longer
_MARK = "NETLOOM_LAB"  # of a lab's processes: lab, role, place


@dataclass(slots=True)
class Known:
    """What a forwarder's table is, as of `number`."""

    number: int
    mtu: int
    tunnels: dict[Prefix, Address]
    senders: dict[Address, Address | None]


class Forwarder:
    """For the loop that made it.  `wanted`: how it should be; `changed` is called when a pass would find something new."""

    def __init__(self, run_dir: str, device: str, wanted: Tunnel, changed: Callable[[], None]) -> None:
        self._run_dir, self._device, self.wanted, self._changed = run_dir, device, wanted, changed
        self._loop = asyncio.get_running_loop()
        self._client: Client | None = None
        self._known: Known | None = None
        self._child: subprocess.Popen[bytes] | None = None
        """One that was started and does not answer yet."""
        self._children: list[subprocess.Popen[bytes]] = []
        self._since = self._not_before = 0.0
        self._patience = _AGAIN[0]
        """Until the next start, when this one fails."""
        self._failure = ""
        self._process: int | None = None
        """A descriptor of the one that has the socket."""
        self._silent = 0
        """How often in a row it has not answered."""

    # as it is

    @property
    def starts(self) -> bool:
        return self._child is not None

    def is_right(self) -> bool:
        """Whether one answers that is as it should be; who is there is looked for."""
        self._reap()
        if self._client is None:
            self._find()
        return self._answers_rightly()

    def state(self) -> State | None:
        """With what went to each peer and came from it."""
        if self._client is not None:
            with suppress(DataplaneError):
                return self._client.state(peers=True)
        return None

    def read(self) -> Known | None:
        if self._client is None:
            return None
        try:
            if self._known is None or self._client.state().number != self._known.number:
                whole = self._client.read()
                tunnels, senders = messages.prefixes(whole.tunnels), messages.senders(whole.senders, whole.former)
                self._known = Known(whole.number, whole.mtu, tunnels, senders)
        except DataplaneError:
            self._part()
            raise
        return self._known

    def _answers_rightly(self) -> bool:
        if self._client is None:
            return False
        try:
            state = self._client.state()
        except DataplaneError as e:
            self._part()
            self._not_answered(e)
            return False
        self._silent = 0
        known, wanted = self.read(), self.wanted
        ours = netloom.__version__, str(wanted.local), wanted.port, wanted.mtu, list(map(str, wanted.also))
        return known is not None and (state.version, state.local, state.port, known.mtu, state.also) == ours

    def _not_answered(self, error: DataplaneError) -> None:
        self._silent += error.errno == errno.ETIMEDOUT
        if self._silent >= _SILENCES and self._process is not None:
            log.warning("%s: it is ended", error)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    # as it should be

    def change(
        self,
        put: Mapping[Prefix, Address] | None = None,
        delete: frozenset[Prefix] = frozenset(),
        believe: Mapping[Address, Address | None] | None = None,
        disbelieve: frozenset[Address] = frozenset(),
    ) -> None:
        """Raises DataplaneError."""
        known = self.read()
        if self._client is None or known is None:
            raise no_forwarder(self._device)
        try:
            number = self._client.change(put, delete, believe, disbelieve, self.wanted.mtu)
        except DataplaneError:
            self._part()
            raise
        known.tunnels.update(put or {})
        for prefix in delete:
            known.tunnels.pop(prefix, None)
        known.senders.update(believe or {})
        for address in disbelieve:
            known.senders.pop(address, None)
        known.mtu = self.wanted.mtu
        if number == known.number + 1:
            known.number = number
        else:  # somebody else has changed it, too
            self._known = None

    def start(self) -> None:
        """The first, or the successor of one.  Raises DataplaneError: there is none yet, or it is not as it should be."""
        if self._client is not None and self._known is not None and self._known.mtu != self.wanted.mtu:
            self.change()
        if not self._answers_rightly():
            self._start()
            raise _error(self._device, self._failure or "a forwarder is starting")

    def _start(self) -> None:
        """One is enough, and not at once again after one that has failed."""
        now = self._loop.time()
        if self._child is not None or now < self._not_before:
            return
        own = self.wanted
        words = [sys.executable, "-m", "netloom", "forwarder", "--device", self._device, "--local", str(own.local)]
        words += ["--port", str(own.port), "--run-dir", self._run_dir, *(w for a in own.also for w in ("--also", str(a)))]
        if not self._failure:  # else the next one shall not depend on who gives out scopes
            words = scoped(f"netloom-forwarder-{self._device}", words)
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        if _MARK in environment:
            environment[_MARK] = environment[_MARK].replace(":agent:", ":forwarder:", 1)
        try:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        except OSError as e:
            raise _error(self._device, f"a forwarder cannot be started: {e.strerror}", e.errno or 0) from e
        self._child, self._since = child, now
        self._children.append(child)

    def look(self) -> None:
        """Whether one that was started answers, or has ended."""
        if self._child is None:
            return
        self._reap()
        if self._client is None and os.path.exists(path(self._run_dir, self._device)):
            with suppress(DataplaneError):  # not yet
                self._find()
        if self._client is not None and self._child is not None:
            with suppress(DataplaneError):
                if self._client.state().pid == self._child.pid:
                    self._child = None
        if self._child is None:
            self._changed()
        elif self._loop.time() > self._since + _PATIENCE:
            self._child.kill()

    def leave(self) -> None:
        """Whoever runs goes on."""
        self._part()
        self._forget()

    def end(self) -> None:
        """Those that were started here."""
        self.leave()
        for child in self._children:
            child.terminate()
            self._bury(child)

    # the process, and the connection to it

    def _find(self) -> None:
        try:
            client = Client(path(self._run_dir, self._device), SECONDS)
        except DataplaneError as e:
            if e.errno not in NOBODY:
                raise
            return
        self._client, self._known = client, None
        self._failure, self._patience = "", _AGAIN[0]
        self._loop.add_reader(client.fileno(), self._ended)
        self._forget()
        try:
            self._process = os.pidfd_open(client.pid)
            state = client.state()
        except ProcessLookupError:
            self._part()
        except DataplaneError as e:
            self._part()
            self._not_answered(e)
        else:
            self._silent = 0
            log.info("forwarder of %s: process %d, by %s", self._device, state.pid, state.bulk)

    def _ended(self) -> None:
        if self._client is not None and self._client.ended:
            self._part()
            self._changed()

    def _forget(self) -> None:
        if self._process is not None:
            os.close(self._process)
        self._process = None

    def _part(self) -> None:
        """The connection is of no more use."""
        if self._client is not None:
            self._loop.remove_reader(self._client.fileno())
            self._client.close()
        self._client = self._known = None

    def _reap(self) -> None:
        """Those that have ended; one that had not answered before is a failure."""
        for child in self._children[:]:
            if child.poll() is None:
                continue
            self._children.remove(child)
            if child is self._child:
                self._child = None
                self._failure = f"the forwarder ended with {child.returncode}: the agent's log says why"
                self._not_before = self._loop.time() + self._patience
                self._loop.call_later(self._patience, self._changed)
                self._patience = min(2 * self._patience, _AGAIN[1])

    def _bury(self, child: subprocess.Popen[bytes]) -> None:
        """One that was told to end."""
        if child.poll() is None:
            self._loop.call_later(LOOK, self._bury, child)


def no_forwarder(device: str) -> DataplaneError:
    return _error(device, "no forwarder answers")


def _error(device: str, reason: str, code: int = 0) -> DataplaneError:
    return DataplaneError("forwarder", device, reason, errno=code)
