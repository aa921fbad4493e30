"""Probing as the agent runs it: a prober that answers from the start, rounds that begin when the cluster is known, and what they find
as troubles of this node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from netloom.agent.probing.prober import Prober
from netloom.agent.probing.rounds import Rounds, Sight
from netloom.agent.troubles import Troubles
from netloom.config import Settings
from netloom.dataplane.sysctls import speaks_ipv6
from netloom.errors import ConfigError
from netloom.model.snapshot import Snapshot

_RETRY = 10.0  # seconds until a port that somebody had is tried again


class Probing:
    """For the running loop.  `prober` may be asked by others, too, once this has started.  `found_far` is told which nodes turn out to
    be no neighbours, and why."""

    def __init__(
        self,
        settings: Settings,
        node_id: str,
        snapshot: Callable[[], Snapshot],
        sight: Callable[[], Sight | None],
        found_far: Callable[[Mapping[str, str]], None],
        troubles: Troubles,
    ) -> None:
        self._settings, self._node_id, self._snapshot, self._troubles = settings, node_id, snapshot, troubles
        self._found_far, self._far = found_far, dict[str, str]()
        self.prober = Prober(settings.node_name, node_id, settings.probe_port, self._known)
        self.rounds = Rounds(self.prober, settings.probe_interval, sight, self._changed)
        self._running: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if not self._settings.probe_port:
            return
        try:
            self.prober.open((4, 6) if speaks_ipv6() else (4,))
        except ConfigError as e:
            self._troubles.report("probes", f"{e.sentence}; other nodes' are not answered")
            self._again = asyncio.get_running_loop().call_later(_RETRY, self.start)
            return
        self._troubles.report("probes")
        if self._settings.probe_interval:
            self._running = asyncio.get_running_loop().create_task(self.rounds.run())

    def stop(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._running is not None:
            self._running.cancel()
        self.rounds.stop()
        self.prober.close()

    def _known(self, name: str) -> str | None:
        if name == self._settings.node_name:
            return self._node_id
        node = self._snapshot().nodes.get(name)
        return node.spec.id if node else None

    def _changed(self) -> None:
        self._troubles.report("paths", *self.rounds.words)
        if (far := self.rounds.far) != self._far:
            self._far = far
            self._found_far(far)
