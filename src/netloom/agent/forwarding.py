"""Forwarding: this node's forwarders (`tunnel.forwarder`), one for each device that wants one, and what they are told.

    Tunnel wanted ─▶ one answers at RUN_DIR/loom.udp.sock? ──yes──▶ of this version, address and port? ──yes──▶ told what changed
                              no ─▶ started                                    no ─▶ a successor is started, and takes over

When the connection to one ends, a pass is called for, which finds a successor, or starts another.  While one starts the pass says that
the tunnel is not ready, and is made again when it is.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from netloom.agent.forwarder import LOOK, NOBODY, SECONDS, Forwarder, Known, no_forwarder
from netloom.errors import DataplaneError
from netloom.model.addresses import Address, Prefix
from netloom.model.desired import Tunnel
from netloom.tunnel.forwarder.client import Client, path
from netloom.tunnel.forwarder.messages import State

log = logging.getLogger(__name__)


class Forwarding:
    """For the loop that made it.  `changed` is called when a pass would find something new."""

    def __init__(self, run_dir: str, changed: Callable[[], None]) -> None:
        self._run_dir, self._changed = run_dir, changed
        self._loop = asyncio.get_running_loop()
        self._forwarders: dict[str, Forwarder] = {}
        self._inherited: set[str] | None = None
        """Devices whose forwarder an agent before this one has started; looked for once."""
        self._looking: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Forwarders stay."""
        for each in self._forwarders.values():
            each.leave()
        if self._looking:
            self._looking.cancel()

    def differ(self, want: Mapping[str, Tunnel]) -> list[str]:
        """Those of them that have no forwarder, or one that is not as it should be."""
        found = []
        for device, tunnel in want.items():
            if device not in self._forwarders:
                self._forwarders[device] = Forwarder(self._run_dir, device, tunnel, self._changed)
            forwarder = self._forwarders[device]
            forwarder.wanted = tunnel
            if not forwarder.is_right():
                found.append(device)
        return found

    def start(self, device: str) -> None:
        """A forwarder, or the successor of one.  Raises DataplaneError: there is none yet, or it is not as it should be."""
        try:
            self._forwarders[device].start()
        finally:
            self._look_soon()

    def states(self) -> list[State]:
        """Of all that answer, with what went to each peer and came from it."""
        return [state for each in self._forwarders.values() if (state := each.state()) is not None]

    def known(self) -> dict[str, Known]:
        """By device, what each forwarder that answers knows."""
        return {device: known for device, each in self._forwarders.items() if (known := each.read()) is not None}

    def change(
        self,
        device: str,
        put: Mapping[Prefix, Address] | None = None,
        delete: frozenset[Prefix] = frozenset(),
        believe: Mapping[Address, Address | None] | None = None,
        disbelieve: frozenset[Address] = frozenset(),
    ) -> None:
        """Raises DataplaneError."""
        if device not in self._forwarders:
            raise no_forwarder(device)
        self._forwarders[device].change(put, delete, believe, disbelieve)

    def running(self) -> set[str]:
        """Devices whose forwarder has a socket, or is about to."""
        if self._inherited is None:
            sockets = glob.glob(f"{glob.escape(self._run_dir)}/loom.*.sock")
            self._inherited = {os.path.basename(name).removesuffix(".sock") for name in sockets}
        return self._inherited | self._forwarders.keys()

    def stop(self, device: str) -> None:
        """Also one that an agent before this one has started."""
        if self._inherited is not None:
            self._inherited.add(device)  # until it has ended
        forwarder = self._forwarders.pop(device, None)
        if forwarder is not None:
            forwarder.end()
        try:
            with Client(path(self._run_dir, device), SECONDS) as client:
                client.stop()
        except DataplaneError as e:
            if e.errno not in NOBODY:
                raise
        with suppress(FileNotFoundError):
            os.unlink(path(self._run_dir, device))
        if self._inherited is not None:
            self._inherited.discard(device)
        log.info("forwarder of %s: ended, for nobody wants it", device)

    def _look_soon(self) -> None:
        if self._looking is None and any(forwarder.starts for forwarder in self._forwarders.values()):
            self._looking = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        """Whether those that were started answer, or have ended."""
        self._looking = None
        for forwarder in self._forwarders.values():
            forwarder.look()
        self._look_soon()
