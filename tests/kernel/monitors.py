"""What the kernel tells of changes, by iproute2's monitors and nft's, while something happens.

    with watched(namespace, folder) as told:
        ...
    assert told == []

They are asked only when they listen, and have told everything: what they are told of last is a change that nobody else makes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from netloom.dataplane import netns
from tests.kernel.iproute import run
from tests.waiting import eventually

_MONITORS = {
    "ip monitor link address route rule nexthop": "ip link add end0 type bridge",
    "nft monitor": "nft add table inet end0",
    "tc monitor": "tc qdisc add dev end0 root handle e0d0: pfifo",
}
_ENDS = ("end0", "e0d0")


@contextmanager
def watched(namespace: int, folder: Path) -> Iterator[list[str]]:
    """The lines that they have told when the block has ended."""
    told: list[str] = []
    with ExitStack() as stack:
        logs = []
        for number, command in enumerate(_MONITORS):
            logs.append(folder / f"told-{number}")
            with logs[-1].open("w") as log, netns.entered(namespace):
                monitor = subprocess.Popen(command.split(), stdout=log)
            stack.callback(monitor.wait)
            stack.callback(monitor.terminate)
            eventually(lambda pid=monitor.pid: _listens(pid))
        yield told
        with netns.entered(namespace):
            for log, change in zip(logs, _MONITORS.values(), strict=True):
                run(change)
                told += eventually(lambda log=log: _before_the_end(log))[:-1]
            run("ip link del end0")
            run("nft delete table inet end0")


def _before_the_end(log: Path) -> list[str]:
    """Its lines, and the beginning of the one that tells of the end; nothing while it has not."""
    text = log.read_text()
    places = [text.index(end) for end in _ENDS if end in text]
    return text[: min(places)].split("\n") if places else []


def _listens(pid: int) -> bool:
    """Whether it has joined a multicast group of netlink's."""
    with suppress(FileNotFoundError):  # it may close one meanwhile
        own = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        rows = [row.split() for row in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:]]
        return any(f"socket:[{row[-1]}]" in own and int(row[3], 16) for row in rows)
    return False
