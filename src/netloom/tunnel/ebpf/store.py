"""The store: the maps of each tunnel, opened once, and pinned so that the next agent finds them.

    /sys/fs/bpf/netloom/4026532345/loom:ipip/prefixes4      (the namespace's number: nodes of one machine share the file system)

Nothing tells that a namespace is gone, but its programs go with it.  So whoever makes the first maps of a node takes those away that no
program uses any more.

Where no bpffs is and none can be mounted, maps live by the programs that use them.  The next agent then fills new ones, and puts
programs that use those in the place of the old: no packet is lost, but counters begin anew.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from netloom.dataplane import netns
from netloom.dataplane.bpf import Map, every, pins
from netloom.errors import DataplaneError
from netloom.model.addresses import Address
from netloom.tunnel.ebpf.wire import SHAPES, Counters, unpack

log = logging.getLogger(__name__)

BPFFS = Path("/sys/fs/bpf")
_SETTING_UP = 60.0  # seconds


class Store:
    """`root`: a bpffs, or where one may be mounted.  For the thread, and the namespace, that it was made in."""

    def __init__(self, root: Path = BPFFS) -> None:
        self._root, self._open = root, dict[str, Mapping[str, Map]]()
        fd = netns.own()
        self._node = str(netns.identify(fd).inode)
        os.close(fd)

    def devices(self) -> Collection[str]:
        """Those whose maps are there."""
        found = set(self._open)
        with suppress(OSError):
            found |= {_device(path.name) for path in self._folder.iterdir()}
        return found

    def find(self, device: str) -> Mapping[str, Map] | None:
        """None where they have to be made."""
        if device not in self._open and pins.is_bpffs(self._root) and self._at(device).is_dir():
            self._open[device] = {name: pins.pinned(self._at(device), name, shape) for name, shape in SHAPES.items()}
        return self._open.get(device)

    def make(self, device: str) -> Mapping[str, Map]:
        found = self.find(device)
        if found is None:
            if self._pinning:
                found = {name: pins.pinned(self._at(device), name, shape) for name, shape in SHAPES.items()}
            else:
                found = {name: Map.create(name, shape) for name, shape in SHAPES.items()}
            self._open[device] = found
        return found

    def drop(self, device: str) -> None:
        """They live on for as long as a program uses them."""
        for held in self._open.pop(device, {}).values():
            held.close()
        pins.unpin(self._at(device))
        with suppress(OSError):  # another tunnel's are still there
            self._folder.rmdir()

    def close(self) -> None:
        for maps in self._open.values():
            for held in maps.values():
                held.close()
        self._open.clear()

    def counters(self, device: str) -> Iterator[tuple[Address, Counters]]:
        """Of each peer, by its outer address."""
        maps = self.find(device)
        for key, numbers in maps["peers"].sums() if maps else ():
            yield unpack(key), Counters(*numbers)

    @property
    def _folder(self) -> Path:
        return self._root / "netloom" / self._node

    def _at(self, device: str) -> Path:
        return self._folder / device.replace(".", ":")  # a bpffs has no dots in its names

    @cached_property
    def _pinning(self) -> bool:
        try:
            pins.mount(self._root)
        except (DataplaneError, OSError) as e:
            log.warning("%s; tunnels' counters begin anew when the agent starts again", e)
            return False
        with suppress(
            DataplaneError, OSError
        ):  # another node does the same, or somebody changed something: the next one does it
            self._sweep()
        return True

    def _sweep(self) -> None:
        """A node that is being set up has maps before it has programs, and is left alone."""
        parent = self._root / "netloom"
        folders = [path for path in parent.glob("[0-9]*") if path.name != self._node]
        old = [path for path in folders if path.stat().st_mtime < time.time() - _SETTING_UP]
        used = {number for info in every() for number in info.maps} if old else set()
        for folder in old:
            if not any(pins.number(path) in used for path in folder.glob("*/*")):
                forget(int(folder.name), self._root)


def forget(namespace: int, root: Path = BPFFS) -> None:
    """All pins of a namespace that is going, by its number."""
    folder = root / "netloom" / str(namespace)
    if pins.is_bpffs(root) and folder.is_dir():
        for path in folder.iterdir():
            pins.unpin(path)
        with suppress(OSError):  # an agent that is still there has just made another
            folder.rmdir()


def _device(name: str) -> str:
    return name.replace(":", ".")
