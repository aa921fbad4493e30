"""Recording: a datastore that writes down what is asked of blocks' records, and what is answered, as a history to be judged.

A line before each call and a line after it, so that a process that is killed in between leaves a call without an answer.  Each
write names its value by an annotation that nobody else looks at; whoever reads knows then which write it sees.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from netloom.datastore import Datastore, Listing, Revision, Stored, Watch
from netloom.errors import Conflict, DatastoreError, NotFound
from netloom.ipam.claiming import KIND
from netloom.model.resources import AnyResource, IPBlock
from tests.linearizability import NEVER, Answer, Operation, Value

NAME = "tests/write"
T = TypeVar("T")


class Recorded:
    """A Datastore.  `name`: unlike that of every other one that writes; for one thread."""

    def __init__(self, datastore: Datastore, path: str, name: str) -> None:
        self._datastore, self._name = datastore, name
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._numbers = itertools.count()
        self._values: dict[tuple[str, Revision], Value] = {}

    @property
    def identity(self) -> str:
        return self._datastore.identity

    def get(self, kind: str, key: str) -> Stored | None:
        if kind != KIND:
            return self._datastore.get(kind, key)
        number = self._called(key, read=True)
        try:
            found = self._datastore.get(kind, key)
        except DatastoreError:
            self._answered(number, Answer.NONE)
            raise
        value = named(found.resource) if found else None
        if found:
            self._values[key, found.revision] = value
        self._answered(number, Answer.YES, value)
        return found

    def list(self, kind: str | None = None) -> Listing:
        return self._datastore.list(kind)

    def keys(self, kind: str) -> Sequence[str]:
        return self._datastore.keys(kind)

    def create(self, resource: AnyResource) -> Revision:
        return self._swap(resource, resource.key, None, self._datastore.create)

    def update(self, resource: AnyResource, revision: Revision) -> Revision:
        old = self._values.get((resource.key, revision))
        return self._swap(resource, resource.key, old, lambda named: self._datastore.update(named, revision))

    def delete(self, kind: str, key: str, revision: Revision | None = None) -> Revision:
        assert kind == KIND and revision is not None, "what is compared with nothing is no register"
        old = self._values[key, revision]
        return self._written(self._called(key, old=old), lambda: self._datastore.delete(kind, key, revision))

    def watch(self, since: Revision) -> Watch:
        return self._datastore.watch(since)

    def close(self) -> None:
        self._datastore.close()
        os.close(self._file)

    def _swap(self, resource: AnyResource, key: str, old: Value, write: Callable[[AnyResource], Revision]) -> Revision:
        if not isinstance(resource, IPBlock):
            return write(resource)
        value = f"{self._name}-{next(self._numbers)}"
        metadata = msgspec.structs.replace(resource.metadata, annotations={NAME: value})
        block = msgspec.structs.replace(resource, metadata=metadata)
        return self._written(self._called(key, old=old, new=value), lambda: write(block))

    def _written(self, number: int, write: Callable[[], Revision]) -> Revision:
        try:
            revision = write()
        except (Conflict, NotFound):
            self._answered(number, Answer.NO)
            raise
        except DatastoreError:
            self._answered(number, Answer.NONE)
            raise
        self._answered(number, Answer.YES)
        return revision

    def _called(self, key: str, *, read: bool = False, old: Value = None, new: Value = None) -> int:
        number = next(self._numbers)
        self._write([number, time.monotonic(), key, read, old, new])
        return number

    def _answered(self, number: int, answer: Answer, value: Value = None) -> None:
        self._write([number, time.monotonic(), answer.value, value])

    def _write(self, line: Iterable[object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def named(resource: AnyResource) -> Value:
    return resource.metadata.annotations[NAME]


def recorded(file: Path) -> Iterator[Operation]:
    """What one `Recorded` has written down.  Reads without an answer say nothing."""
    calls: dict[int, Operation] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        match json.loads(line):
            case [number, at, key, read, old, new]:
                calls[number] = Operation(at, NEVER, key, read, old, new, Answer.NONE)
            case [number, at, answer, value]:
                call, said = calls.pop(number), Answer(answer)
                if said is not Answer.NONE:
                    call = call._replace(answered=at, answer=said, new=value if call.read else call.new)
                if said is not Answer.NONE or not call.read:
                    yield call
    yield from (call for call in calls.values() if not call.read)
