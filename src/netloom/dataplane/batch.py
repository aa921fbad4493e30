"""Many requests in one go, each refusal matched to its key."""

from __future__ import annotations

import enum
import errno
from collections.abc import Hashable
from typing import Generic, TypeVar

from netloom.dataplane.netlink import Netlink
from netloom.errors import DataplaneError
from netloom.reconcile import Outcome

K = TypeVar("K", bound=Hashable)

_THERE = frozenset((errno.EEXIST,))
"""Of a put that replaces: exactly this is there already, behind another entry under the same key."""
_GONE = frozenset((errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL))
"""Of a delete: there is no such thing (any more)."""


class Step(enum.Enum):
    PUT = enum.auto()
    DELETE = enum.auto()
    CLEAR = enum.auto()  # a delete that makes room for a put


class Batch(Generic[K]):
    """Requests go out in the order in which they came in."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._requests: list[bytes] = []
        self._steps: list[Step] = []
        self._keys: list[K] = []
        self._refused: list[DataplaneError] = []

    def add(self, step: Step, key: K, request: bytes) -> None:
        self._steps.append(step)
        self._keys.append(key)
        self._requests.append(request)

    def refuse(self, key: K, reason: str, code: int) -> None:
        """What the kernel need not be asked."""
        self._refused.append(DataplaneError(self._table, describe(key), reason, errno=code))

    def send(self, netlink: Netlink) -> Outcome:
        done = {step: self._steps.count(step) for step in Step}
        for index, error in netlink.send_many(self._requests).items():
            step = self._steps[index]
            if error.errno not in (_THERE if step is Step.PUT else _GONE):
                done[step] -= 1
                self.refuse(self._keys[index], error.reason, error.errno)
        return Outcome(done[Step.PUT], done[Step.DELETE], tuple(self._refused))


def describe(key: object) -> str:
    """A key in words: a name, or the parts of a tuple."""
    return " ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
