"""The lab's BIRDs: one beside each node's agent, and one in each router that speaks BGP.

    STATE/bird/bird.conf      a node's: written by its agent, a router's by the lab (see `fabric`)
    RUN/bird/bird.ctl         its control socket

A BIRD is started as root and becomes a user of its own at once, with the capabilities that it needs (user `bird` where the machine
has it, else `nobody`).  So all folders on the way to its file let its group through, and what is written into them gets its group.

It is never restarted for a change, and runs with `-R`: routes of the one before stay until its peers have told it everything again.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass

from netloom.lab import fabric
from netloom.lab.record import ROOT, folder, namespace_path
from netloom.lab.topology import Topology

_THROUGH, _INHERITED = 0o710, 0o2750


@dataclass(frozen=True, slots=True)
class Bird:
    """What the keeper starts, as soon as its configuration is there."""

    place: str
    namespace: str
    file: str
    socket: str
    log: str


def of(topology: Topology) -> Iterator[Bird]:
    """All that a lab has."""
    for place in (*(r.name for r in topology.routers if r.as_number), *(n.name for n in topology.nodes if topology.bgp)):
        home = folder(topology.name, place)
        yield Bird(
            place,
            namespace_path(topology.name, place),
            f"{home}/state/bird/bird.conf",
            f"{home}/run/bird/bird.ctl",
            f"{home}/bird.log",
        )


def prepare(topology: Topology) -> None:
    """Folders, and the files of routers."""
    _, group = user()
    for bird in of(topology):
        home = folder(topology.name, bird.place)
        for path in (ROOT, folder(topology.name), home, f"{home}/run", f"{home}/state"):
            _make(path, group, _THROUGH)
        for path in (f"{home}/run/bird", f"{home}/state/bird"):
            _make(path, group, _INHERITED)
    files = {bird.place: bird.file for bird in of(topology)}
    for router in topology.routers:
        if router.name in files:
            with open(files[router.name], "w", encoding="utf-8", opener=_for_group) as file:
                file.write(fabric.configuration(topology, router))


def command(program: str, bird: Bird) -> list[str]:
    owner, group = user()
    return [program, "-f", "-R", "-u", str(owner), "-g", str(group), "-c", bird.file, "-s", bird.socket]


def user() -> tuple[int, int]:
    """UID and GID that a BIRD runs with."""
    try:
        return pwd.getpwnam("bird").pw_uid, grp.getgrnam("bird").gr_gid
    except KeyError:
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid


def _make(path: str, group: int, mode: int) -> None:
    os.makedirs(path, exist_ok=True)
    os.chown(path, 0, group)
    os.chmod(path, mode)


def _for_group(path: str, flags: int) -> int:
    return os.open(path, flags, 0o640)
