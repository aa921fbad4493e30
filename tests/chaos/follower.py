"""One process that follows the cluster as an agent does, and never writes.

    python -m tests.chaos.follower TARGET

For each line on stdin it says what it knows: the last write of each block's record, how often the store jumped in its eyes (which it
must not: it was only in trouble), and how often it was away.
"""

from __future__ import annotations

import json
import sys

from netloom.agent.reaching import Reached
from netloom.agent.watching import Connection, Watcher
from netloom.model.snapshot import Snapshot
from tests.chaos.recording import named


class Follower:
    def __init__(self, target: str) -> None:
        reached = Reached(target, known=True)
        self.snapshot, self.connection, self.losses, self.news = Snapshot(), Connection(), 0, 0
        self._watcher = Watcher(reached, Snapshot(), self._hear, reached.renew)
        self._watcher.start()

    def _hear(self, snapshot: Snapshot, connection: Connection) -> None:
        self.losses += self.connection.connected and not connection.connected
        self.news += snapshot.revision != self.snapshot.revision
        assert snapshot.revision >= self.snapshot.revision, "a snapshot is never older than the one before"
        self.snapshot, self.connection = snapshot, connection

    def says(self) -> str:
        blocks = {name: named(block) for name, block in self.snapshot.blocks.items()}
        return json.dumps({"blocks": blocks, "jumps": self.connection.jumps, "losses": self.losses, "news": self.news})


def main() -> None:
    follower = Follower(sys.argv[1])
    print("following", flush=True)
    for _ in sys.stdin:
        print(follower.says(), flush=True)


if __name__ == "__main__":
    main()
