"""Installing: files → steps → host.

    decide   what is there, what is wanted, what the record knows   → a word for each file, or a refusal of the whole
    begin    directories and hashes into the record                 a kill from here on leaves nothing that nobody knows
    put      each file by a rename                                  the runtime may execute the old plugin meanwhile
    finish   the conflist, last: from then on pods come             only when the agent answers

A file at our place that is not in the record is somebody else's, and nothing at all is done, unless it is to be overwritten.  What
the user changed in a text of ours stays.  Done twice, the second time changes nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from netloom import __version__
from netloom.errors import ConfigError
from netloom.footprint import record as records
from netloom.footprint.files import CONFIG_DIRECTORY, File
from netloom.footprint.record import Record
from netloom.footprint.tree import Found, Tree


class Word(enum.Enum):
    """What is done to a file."""

    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    KEPT = "kept, for it was changed by hand"


WRITTEN = (Word.CREATED, Word.CONFIGURED)


@dataclass(frozen=True, slots=True)
class Step:
    file: File
    word: Word


class Installation:
    """`force`: what stands in the way is overwritten.  Made before anything is done: it raises ConfigErrors, all of them in one
    ExceptionGroup, for files of others."""

    def __init__(self, tree: Tree, files: Iterable[File], conflist: File, *, force: bool = False) -> None:
        self._tree = tree
        self._record = records.read(tree) or Record()
        if self._record.conflist not in ("", conflist.path):
            hint = (
                f"netloom system uninstall first; or leave it there: --cni-conf-dir {self._record.conflist.rpartition('/')[0]}"
            )
            raise ConfigError("the network was put there before", where=self._record.conflist, hint=hint)
        self.steps = tuple(_decided(tree, self._record, list(files), force=force))
        self.last = next(_decided(tree, self._record, [conflist], force=force))

    @property
    def directories(self) -> tuple[str, ...]:
        """Those that have to be made."""
        places = [records.DIRECTORY, CONFIG_DIRECTORY, *(_parent(step.file) for step in (*self.steps, self.last))]
        return tuple(dict.fromkeys(d for place in places for d in self._tree.missing_directories(place)))

    def begin(self, sysctls: dict[str, str]) -> None:
        """`sysctls`: as they are now; those of the first time are kept.  The record's own directory is there before it: that one
        counts as ours whoever made it, and goes when it is empty."""
        record, directories = self._record, self.directories
        for directory in self._tree.missing_directories(records.DIRECTORY):
            self._tree.make_directory(directory, 0o700 if directory == records.DIRECTORY else 0o755)
        self._record = msgspec.structs.replace(
            record.with_directories((*directories, records.DIRECTORY)).with_files(self._contents(self.steps), keep=True),
            version=__version__,
            sysctls={**sysctls, **record.sysctls},
        )
        records.write(self._tree, self._record)
        for directory in directories:
            self._tree.make_directory(directory)

    def put(self) -> Iterator[Step]:
        for step in self.steps:
            if step.word in WRITTEN:
                self._tree.put(step.file.path, step.file.content, step.file.mode)
            yield step
        self._write(self._record.with_files(self._contents(self.steps), keep=False))

    def finish(self) -> Step:
        file = self.last.file
        content = self._contents([self.last])
        self._write(msgspec.structs.replace(self._record.with_files(content, keep=True), conflist=file.path))
        if self.last.word in WRITTEN:
            self._tree.put(file.path, file.content, file.mode)
        self._write(self._record.with_files(content, keep=False))
        return self.last

    def _contents(self, steps: Iterable[Step]) -> dict[str, bytes]:
        """Of those files that are as we want them, or will be."""
        return {step.file.path: step.file.content for step in steps if step.word is not Word.KEPT}

    def _write(self, record: Record) -> None:
        if record != self._record:
            self._record = record
            records.write(self._tree, record)


def _decided(tree: Tree, record: Record, files: list[File], *, force: bool) -> Iterator[Step]:
    refusals: list[ConfigError] = []
    for file in files:
        found = tree.look(file.path)
        word = decide(file, found, record, force=force)
        if word is None:
            refusals.append(ConfigError("is there already, and not ours", where=file.path))
        else:
            yield Step(file, word)
    if refusals:
        raise ExceptionGroup("look at them, and move them away; --force overwrites them", refusals)


def decide(file: File, found: Found | None, record: Record, *, force: bool) -> Word | None:
    """None: somebody else's file is there."""
    if found is None:
        return Word.CREATED
    if found.content == file.content:
        return Word.UNCHANGED if found.mode == file.mode else Word.CONFIGURED
    if record.knows(file.path, found.content) or force:
        return Word.CONFIGURED
    if file.path not in record.files:
        return None
    return Word.KEPT if file.editable else Word.CONFIGURED


def _parent(file: File) -> str:
    return file.path.rpartition("/")[0]
