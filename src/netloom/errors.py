"""The tree of errors.  Imports nothing.

    NetloomError
    ├── ConfigError            the user must act: a manifest, a setting, a flag
    ├── DatastoreError         the datastore said no, or nothing
    │   ├── Unavailable        cannot be reached, busy, full, damaged: what runs goes on
    │   │   └── Replaced       another store, or another history of it, is in its place: open it anew
    │   ├── Conflict           compare-and-swap lost: read again, decide again
    │   ├── NotFound
    │   ├── Unreadable         a record cannot be decoded: it says nothing
    │   └── Compacted          the watch is too far behind: list again
    ├── PoolExhausted          no address or block left; names pool, node and figures
    ├── JournalDamaged         the record of this node's pods cannot be read: rebuild it from the kernel
    ├── JournalUnwritable      the record of this node's pods cannot be written (disk full): no ADD until it can
    ├── DataplaneError         the kernel refused; names table and key
    └── CniError               an answer to the runtime, with the specification's code

Every foreign exception is translated once, where it enters (`raise … from`).  `main` maps the tree to exit codes,
the CNI server maps it to the specification's codes.
"""

from __future__ import annotations


class NetloomError(Exception):
    """Base of all; `hint` is the next thing to type."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def sentence(self) -> str:
        """Message and hint where there is one line for both: in a log, in a list of problems."""
        return f"{self}; {self.hint}" if self.hint else str(self)


class ConfigError(NetloomError):
    """What the user wrote cannot be used.  `where` is a file, `file:line`, an environment variable or a flag; `path` a field."""

    def __init__(self, message: str, *, where: str | None = None, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(": ".join(part for part in (where, path, message) if part), hint=hint)
        self.where, self.path = where, path


class DatastoreError(NetloomError):
    pass


class Unavailable(DatastoreError):
    pass


class Replaced(Unavailable):
    pass


class Conflict(DatastoreError):
    pass


class NotFound(DatastoreError):
    pass


class Unreadable(DatastoreError):
    pass


class Compacted(DatastoreError):
    pass


class PoolExhausted(NetloomError):
    pass


class JournalDamaged(NetloomError):
    pass


class JournalUnwritable(NetloomError):
    pass


class DataplaneError(NetloomError):
    """The kernel refused `key` in `table`; `errno` is its reason, 0 where there is none."""

    def __init__(self, table: str, key: str, reason: str, *, errno: int = 0) -> None:
        super().__init__(f"{table} {key}: {reason}")
        self.table, self.key, self.errno = table, key, errno


class CniError(NetloomError):
    """An error answer of the CNI specification: code, short message, details (section "Error" of SPEC 1.1.0)."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.details = code, details
