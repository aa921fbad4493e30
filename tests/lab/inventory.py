"""What a lab could leave on a machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from netloom.lab import processes
from netloom.lab.inside import marked_namespaces
from netloom.lab.record import NAMESPACES, ROOT


@dataclass(frozen=True)
class Inventory:
    """`links` are those of the machine itself; everything else is what carries the lab's name or mark."""

    namespaces: frozenset[str]
    mounts: frozenset[str]
    files: frozenset[str]
    processes: frozenset[int]
    links: frozenset[str]


def inventory(lab: str) -> Inventory:
    with processes.found(lab) as running:
        pids = frozenset(process.pid for process in running)
    names = {f"{NAMESPACES}/{name}" for name in _names(NAMESPACES) if name.startswith(f"{lab}-")}
    return Inventory(
        namespaces=frozenset(names | set(marked_namespaces(lab))),
        mounts=frozenset(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if f"/{lab}" in line),
        files=frozenset(name for name in _names(ROOT) if name == lab),
        processes=pids,
        links=frozenset(_names("/sys/class/net")),
    )


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []
