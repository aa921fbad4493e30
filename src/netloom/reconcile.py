"""The one pattern to learn here: make a table agree with what is wanted.

A driver owns one table (of a kernel, or BIRD's configuration) and holds exactly one opinion: what in it is ours.
It can say how the table differs from what is wanted, and carry changes out.  Both are keyed by what the kernel keys by,
so a difference is two set operations.  The same call serves the first pass after a start, every later one, and the repair
after somebody else changed the table: nothing is remembered from pass to pass but what speeds up the comparison.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from netloom.errors import DataplaneError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Changes(Generic[K, V]):
    """What to write and what to take away.  Puts come before deletes, so nothing is missing in between."""

    put: Mapping[K, V] = field(default_factory=dict)
    delete: frozenset[K] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.put or self.delete)

    def __str__(self) -> str:
        return f"+{len(self.put)}-{len(self.delete)}" if self else "same"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a driver did: how much was written and taken away, and each refusal.  It goes on after a refusal."""

    put: int = 0
    deleted: int = 0
    failures: tuple[DataplaneError, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.put + other.put, self.deleted + other.deleted, (*self.failures, *other.failures))

    def __str__(self) -> str:
        text = f"+{self.put}-{self.deleted}" if self.put or self.deleted else "same"
        return f"{text}!{len(self.failures)}" if self.failures else text


class Driver(Protocol[K, V]):
    """`changes` reads the table and writes nothing; `apply` writes, goes on after a failure, and never retries."""

    name: str

    def changes(self, want: Mapping[K, V]) -> Changes[K, V]: ...

    def apply(self, changes: Changes[K, V]) -> Outcome: ...


def diff(want: Mapping[K, V], have: Mapping[K, V]) -> Changes[K, V]:
    return Changes(
        put={key: value for key, value in want.items() if have.get(key) != value},
        delete=frozenset(have.keys() - want.keys()),
    )


def reconcile(driver: Driver[K, V], want: Mapping[K, V]) -> Outcome:
    changes = driver.changes(want)
    return driver.apply(changes) if changes else Outcome()
