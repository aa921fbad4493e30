"""Growing: this node's looks at how much of each pool is claimed, kept in STATE_DIR/growth.json for `netloom ipam show` (ipam.growth).

One look in ten minutes, written at once: a file of a few kilobytes.  What cannot be read is begun anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from netloom.durable import write_durably
from netloom.ipam import growth
from netloom.ipam.growth import EVERY, Look
from netloom.model.snapshot import Snapshot

log = logging.getLogger(__name__)

FILE = "growth.json"


class Growing:
    """For the agent's loop, but for `write`.  `clock`: seconds of the epoch."""

    def __init__(self, state_dir: str, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = f"{state_dir}/{FILE}", clock
        self._looks = read(self._path)

    def look(self, snapshot: Snapshot) -> Callable[[], None] | None:
        """What is to be written now, in a thread; None: there was a look a moment ago."""
        now = self._clock()
        last = self._looks[-1].at if self._looks else float("-inf")
        if last <= now < last + EVERY or not snapshot.complete:
            return None
        self._looks = growth.kept((*self._looks, growth.look(now, snapshot)), now)
        data = growth.history(self._looks)
        return lambda: write_durably(self._path, data)


def read(path: str) -> tuple[Look, ...]:
    try:
        with open(path, "rb") as file:
            return growth.read(file.read())
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as e:
        log.warning("%s cannot be read, starting without: %s", path, e)
        return ()
