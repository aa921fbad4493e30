"""Keeps a lab's BIRDs running: what systemd is on a machine.  One process per lab.

    python -m netloom.lab.keeper LAB

A BIRD is started as soon as its configuration is there, and again whenever it ends.  READY=1 (sd_notify(3)) is said when those of
the routers, whose files the lab has written, are started.  It ends by a signal, and so do its BIRDs: they are processes of the lab
like all others, with a mark of their own.
"""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from netloom.agent.notify import notify
from netloom.dataplane import netns
from netloom.lab import birds, packages, record
from netloom.lab.birds import Bird
from netloom.lab.processes import marked, spawn

_LOOK = 0.1  # seconds between two looks at whose configuration has come
_PAUSE = 0.2  # seconds before one that ended is started again: one that cannot run must not keep a processor busy


@dataclass(slots=True)
class Keeper:
    lab: str
    program: packages.Program
    absent: deque[Bird]
    """Of whom there is no process now."""
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    started: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        self._start_all()
        notify("READY=1")
        while True:
            for key, _ in self.selector.select(_LOOK if self.absent else None):
                self.selector.unregister(key.fd)
                os.close(key.fd)
                pid, bird = key.data
                os.waitpid(pid, 0)
                self.absent.append(bird)
            self._start_all()

    def _start_all(self) -> None:
        for _ in range(len(self.absent)):
            bird = self.absent.popleft()
            paused = time.monotonic() - self.started.get(bird.place, -_PAUSE) >= _PAUSE
            if paused and os.path.exists(bird.file):
                self._start(bird)
            else:
                self.absent.append(bird)

    def _start(self, bird: Bird) -> None:
        self.started[bird.place] = time.monotonic()
        namespace = netns.open_netns(bird.namespace)
        try:
            with netns.entered(namespace):
                environment = marked(self.lab, "bird", bird.place) | self.program.environment
                pid = spawn(birds.command(self.program.path, bird), environment, bird.log)
        finally:
            os.close(namespace)
        self.selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, bird))


def main(lab: str) -> None:
    Keeper(lab, packages.bird(), deque(birds.of(record.read(lab).topology))).run()


if __name__ == "__main__":
    main(sys.argv[1])
