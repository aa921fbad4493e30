"""Did a store that many used at once behave as one register per key that all of them used one after the other?

A history is what clients saw: each operation with the time of its call and of its answer.  It is linearizable if every operation can
be given a moment between the two, such that a single register, asked in that order, would have given the same answers (Herlihy and
Wing 1990).  The search is that of Wing and Gong (1993) with Lowe's memory of states that led nowhere (2017); keys are judged one by
one, which is as good as all at once (Herlihy and Wing's locality) and makes it fast.

An operation that got no answer may have happened at any time after its call, or never.  A value is told from every other by its
name: whoever writes gives it one of its own, so `compare and swap by revision` is `swap that very value`.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Value = str | None
"""A value's name; None: there is none under the key."""
NEVER = float("inf")


class Answer(enum.Enum):
    YES = "yes"
    NO = "no"
    """The comparison failed: nothing was written."""
    NONE = "none"
    """Nobody knows."""


class Operation(NamedTuple):
    """`called`, `answered`: times of one clock.  A read found `new`; a swap put `new` in the place of `old`."""

    called: float
    answered: float
    key: str
    read: bool
    old: Value
    new: Value
    answer: Answer = Answer.YES

    def after(self, value: Value) -> tuple[Value, ...]:
        """What the register may hold if it held `value` when this happened; nothing: it cannot have happened then."""
        if self.read:
            return (value,) if value == self.new else ()
        if self.answer is Answer.NO:
            return (value,) if value != self.old else ()
        if self.answer is Answer.NONE:
            return (self.new,) if value == self.old else (value,)
        return (self.new,) if value == self.old else ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`stuck`: of each key that is not linearizable, its operations and how many could be put in order at most."""

    operations: int
    keys: int
    stuck: Mapping[str, tuple[Sequence[Operation], int]]

    def __bool__(self) -> bool:
        return not self.stuck

    def __str__(self) -> str:
        lines = [f"{self.operations} operations on {self.keys} keys, {len(self.stuck)} not linearizable"]
        for key, (operations, reached) in list(self.stuck.items())[:3]:
            lines += [f"{key}: {reached} of {len(operations)} can be put in order", *(f"    {o}" for o in operations)]
        return "\n".join(lines)


def judge(history: Iterable[Operation]) -> Verdict:
    """Each key begins with no value."""
    keys: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        keys[operation.key].append(operation)
    stuck = {}
    for key, operations in keys.items():
        ordered = sorted(operations, key=lambda operation: operation.called)
        if (reached := _search(ordered)) is not None:
            stuck[key] = ordered, reached
    return Verdict(sum(map(len, keys.values())), len(keys), stuck)


def _search(operations: Sequence[Operation]) -> int | None:
    """None if they can be put in order; else how many at most.  `operations` by the time of their calls.

    A state is which operations are done (a bit each) and what the register holds.  Next may be any that was called before every one
    that is not done was answered."""
    owed = sum(1 << i for i, o in enumerate(operations) if o.answer is not Answer.NONE)
    seen: set[tuple[int, Value]] = {(0, None)}
    stack: list[tuple[int, Value]] = [(0, None)]
    most = 0
    while stack:
        done, value = stack.pop()
        if done & owed == owed:
            return None
        most = max(most, done.bit_count())
        for index in reversed(_next(operations, done)):
            for then in operations[index].after(value):
                state = done | 1 << index, then
                if state not in seen:
                    seen.add(state)
                    stack.append(state)
    return most


def _next(operations: Sequence[Operation], done: int) -> list[int]:
    found: list[int] = []
    until = NEVER
    for index, operation in enumerate(operations):
        if operation.called > until:
            break
        if not done >> index & 1:
            found.append(index)
            if operation.answer is not Answer.NONE:
                until = min(until, operation.answered)
    return found
