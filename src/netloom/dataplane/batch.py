"""Many requests in one go, each refusal matched to its key."""

from __future__ import annotations

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


class Batch(Generic[K]):
    """Requests go out in the order in which they came in."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._requests: list[bytes] = []
        self._steps: list[tuple[K, frozenset[int]]] = []  # whose request, and which answers mean that it is done
        self._refused: list[DataplaneError] = []

    def put(self, key: K, request: bytes) -> None:
        self._requests.append(request)
        self._steps.append((key, _THERE))

    def delete(self, key: K, request: bytes) -> None:
        self._requests.append(request)
        self._steps.append((key, _GONE))

    def refuse(self, key: K, reason: str, code: int) -> None:
        """What the kernel need not be asked."""
        self._refused.append(DataplaneError(self._table, describe(key), reason, errno=code))

    def send(self, netlink: Netlink) -> Outcome:
        errors = netlink.send_many(self._requests)
        done = {_THERE: set[K](), _GONE: set[K]()}
        for index, (key, fine) in enumerate(self._steps):
            error = errors.get(index)
            if error is None or error.errno in fine:
                done[fine].add(key)
            else:
                self.refuse(key, error.reason, error.errno)
        return Outcome(len(done[_THERE]), len(done[_GONE] - done[_THERE]), tuple(self._refused))


def describe(key: object) -> str:
    """A key in words: a name, or the parts of a tuple."""
    return " ".join(str(part) for part in key) if isinstance(key, tuple) else str(key)
