"""Standing: whether the tables in the kernel are, rule for rule, those that an earlier life of this agent built.

After a build the kernel's own listing of our tables is hashed and put down in a file.  A successor that would build the same, and
finds the same listing, need not build: counters go on, and nobody who listens hears anything of the restart.  Whatever does not
fit (another version of the rules, a change by somebody else meanwhile, no file) is simply built.

Elements of sets are left out: they are compared one by one anyway.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from netloom.dataplane.netlink.wire import attributes
from netloom.dataplane.nft.nfnetlink import Message, Nfnetlink
from netloom.dataplane.nft.objects import Set, TableId, get_chains, get_counters, get_rules, get_sets
from netloom.errors import DataplaneError

_LISTED: Final = {
    "chain": frozenset((1, 3, 4, 5, 7)),  # table, name, hook, policy, type
    "rule": frozenset((1, 2, 4, 7)),  # table, chain, expressions, comment
    "set": frozenset((1, 2, 3, 4, 5)),  # table, name, flags, key's type and length
    "counter": frozenset((1, 2, 3)),  # table, name, type
}
"""Attributes that stay the same as long as nobody changes the object (linux/netfilter/nf_tables.h): no handles, no counts."""


class Standing:
    """`path`: the file; None: nothing is remembered."""

    def __init__(self, kernel: Nfnetlink, tables: Iterable[TableId], path: str | None) -> None:
        self._kernel, self._tables, self._path = kernel, tuple(tables), path

    def is_of(self, batch: Sequence[Message]) -> bool:
        """Whether what stands is what this batch has made once."""
        if self._path is None:
            return False
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                return file.read() == self._mark(batch)
        except (OSError, DataplaneError):  # there is no file, or there are no tables
            return False

    def put_down(self, batch: Sequence[Message]) -> None:
        """What stands is what this batch has just made."""
        if self._path is not None:
            with suppress(OSError, DataplaneError):  # without it the successor builds
                mark = self._mark(batch)
                with open(self._path, "w", encoding="ascii", opener=_for_root) as file:
                    file.write(mark)

    def forget(self) -> None:
        """Nothing stands any more."""
        if self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)

    def _mark(self, batch: Sequence[Message]) -> str:
        built = b"".join(message.pack(0) for message in batch if not isinstance(message.what, Set))
        return f"{_hash([built])} {_hash(self._listing())}\n"

    def _listing(self) -> Iterable[bytes]:
        requests = [("chain", get_chains())]
        for table in self._tables:
            requests += [("set", get_sets(table)), ("counter", get_counters(table)), ("rule", get_rules(table))]
        for kind, request in requests:
            for _, family, body in self._kernel.dump(request):
                found = attributes(body)
                if TableId(family, found[1].rstrip(b"\0").decode(errors="replace")) in self._tables:
                    yield repr((kind, family, sorted((k, v) for k, v in found.items() if k in _LISTED[kind]))).encode()


def _for_root(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _hash(parts: Iterable[bytes]) -> str:
    sum_ = hashlib.sha256()
    for part in parts:
        sum_.update(part)
    return sum_.hexdigest()
