"""Removing: the way back.  The conflist first, so that no pod comes any more; then, outside here, the agent and what it keeps in the
kernel; then the other files; the record last, so that a kill at any moment leaves one who knows the rest.

Only bytes that the record knows are removed.  A text that the user changed stays where it is, but for the conflist: that moves
aside, because a runtime that reads it would fail for every pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from netloom.footprint import record as records
from netloom.footprint.files import PLUGIN
from netloom.footprint.tree import Tree

_ASIDE = ".kept"


class Removal(NamedTuple):
    path: str
    word: str


class Removing:
    """`dry`: says what would be done."""

    def __init__(self, tree: Tree, *, dry: bool = False) -> None:
        self._tree, self._dry = tree, dry
        self._gone = {records.PATH}
        self.record = records.read(tree)

    def conflist(self) -> Iterator[Removal]:
        if self.record and self.record.conflist:
            yield from self._remove(self.record.conflist, aside=True)

    def files(self) -> Iterator[Removal]:
        files, directories = (self.record.files, self.record.directories) if self.record else ((), ())
        for path in files:
            if self.record and path != self.record.conflist:
                yield from self._remove(path)
        around = [d for d in (*directories, records.DIRECTORY) if f"{records.DIRECTORY}/".startswith(f"{d}/")]
        yield from self._remove_directories(d for d in reversed(directories) if d not in around)
        if not self._dry:
            records.remove(self._tree)
        yield from self._remove_directories(reversed(dict.fromkeys(around)))

    def _remove_directories(self, directories: Iterable[str]) -> Iterator[Removal]:
        for directory in directories:
            if self._removes(directory):
                self._gone.add(directory)
                yield Removal(directory, "deleted")

    def _removes(self, directory: str) -> bool:
        """An empty one, or one that would be."""
        if not self._dry:
            return self._tree.remove_directory(directory)
        return self._tree.exists(directory) and all(f"{directory}/{name}" in self._gone for name in self._tree.names(directory))

    def _remove(self, path: str, *, aside: bool = False) -> Iterator[Removal]:
        found = self._tree.look(path)
        if found is None:
            if not self._dry:
                self._tree.remove(path)  # what a killed `put` may have left beside it
            return
        assert self.record is not None
        if self.record.knows(path, found.content) or path.endswith(f"/{PLUGIN}"):
            if not self._dry:
                self._tree.remove(path)
            self._gone.add(path)
            yield Removal(path, "deleted")
        elif aside:
            if not self._dry:
                self._tree.move(path, path.rpartition("/")[2] + _ASIDE)
            yield Removal(path, f"moved to {path}{_ASIDE}, for it was changed by hand")
        else:
            yield Removal(path, "kept, for it was changed by hand")
