"""The database file: opened only where SQLite is safe, and only if it is ours and sound; every error names it and says what to do.

Before SQLite sees the path: the directory is made (0700), a network file system is refused, the file is made (0600).  After:
who it belongs to (application_id) and how it is laid out (user_version), then WAL and `quick_check`.

The tricky thing: this process must never open the database file but through SQLite.  Closing any descriptor of a file drops
all POSIX locks that the process holds on it (fcntl(2)), SQLite's among them; so the file is made with mknod(2).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import quote

from netloom.errors import Unavailable

APPLICATION = 0x4E4C4F4D  # "NLOM"
SCHEMA = 1
_TABLES = """
CREATE TABLE meta (identity TEXT NOT NULL);
CREATE TABLE records (
    kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE log (revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, value BLOB);
INSERT INTO log VALUES (0, '', '', NULL);
"""
_SETTINGS = (
    "PRAGMA synchronous = FULL",  # a claim that was answered survives a power cut
    "PRAGMA journal_size_limit = 16777216",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)

# fmt: off
NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2",
    "orangefs", "pvfs2", "smb3", "smbfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.davfs", "fuse.glusterfs", "fuse.moosefs",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
})
# fmt: on
"""Types in proc_pid_mountinfo(5) on which several machines may write: WAL's shared memory reaches only one kernel."""

_MOVE_AWAY = "stop the agents, move it away with its -wal and -shm, start again: agents assert their own claims, the rest is applied anew"
_ELSEWHERE = "name another file in the setting `datastore`"
_REASONS: Mapping[int, tuple[str, str]] = {
    sqlite3.SQLITE_BUSY: ("is locked by another process", "see who holds it: fuser -v {path}"),
    sqlite3.SQLITE_LOCKED: ("is locked by this process", "see who holds it: fuser -v {path}"),
    sqlite3.SQLITE_FULL: ("cannot grow, the disk is full", "make room: df {directory}"),
    sqlite3.SQLITE_READONLY: ("is read-only", "see how it is mounted: findmnt -T {path}"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "see who may: ls -la {directory}"),
    sqlite3.SQLITE_PERM: ("cannot be opened", "see who may: ls -la {directory}"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written", "see what the disk says: dmesg; df {directory}"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", _MOVE_AWAY),
    sqlite3.SQLITE_NOTADB: ("is not a database", _ELSEWHERE),
}
"""Primary result codes (sqlite.org/rescode.html) in words; {path} and {directory} are filled in."""


class SqliteFile:
    """One connection to the database, lent to one thread at a time.  `patience`: seconds to wait for other processes' locks."""

    def __init__(self, path: str, *, patience: float) -> None:
        self.path, self._patience, self._lock = path, patience, threading.Lock()
        try:
            self._connection = sqlite3.connect(
                f"file:{quote(os.fsencode(path))}?mode=rw",
                uri=True,
                timeout=patience,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.Error as e:
            raise _unavailable(path, e) from e
        self._file = _inode(path)
        self._connection.text_factory = _text
        try:
            for setting in _SETTINGS:
                self._connection.execute(setting)
        except sqlite3.Error as e:
            self._connection.close()
            raise _unavailable(path, e) from e

    def take_into_use(self) -> None:
        """Lays out an empty database; refuses one that is not ours, before anything is changed, or that is damaged."""
        with self.transaction("IMMEDIATE") as db:
            _require_ours(self.path, db)
        self._use_wal()
        with self.transaction("DEFERRED") as db:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise self.damaged(found)

    def damaged(self, found: str) -> Unavailable:
        return Unavailable(f"{self.path} is damaged: {found}", hint=_MOVE_AWAY)

    @contextmanager
    def transaction(self, mode: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing; a reader sees one state.  Raises Unavailable."""
        with self._lock:
            if _inode(self.path) != self._file:
                raise Unavailable(f"{self.path} was removed or replaced while it was in use", hint="restart the agent")
            try:
                self._connection.execute(f"BEGIN {mode}")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as e:
                raise _unavailable(self.path, e) from e
            finally:
                self._roll_back()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _roll_back(self) -> None:
        """After a commit there is nothing to do; after a failure SQLite may have done it by itself."""
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _use_wal(self) -> None:
        """Changing the mode needs the file alone for a moment, and SQLite does not wait for that by itself."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.Error as e:
                if _code(e) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise _unavailable(self.path, e) from e
                time.sleep(0.01)
            else:
                return


def _require_ours(path: str, db: sqlite3.Connection) -> None:
    application, version, tables = (
        db.execute(question).fetchone()[0]
        for question in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if (application, version, tables) == (0, 0, 0):
        for statement in _TABLES.split(";"):
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES (?)", (str(uuid.uuid4()),))
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")
    elif application != APPLICATION:
        raise Unavailable(f"{path} is a database of another program", hint=_ELSEWHERE)
    elif version != SCHEMA:
        raise Unavailable(
            f"{path} has schema {version}; this Netloom knows {SCHEMA}", hint="run the Netloom that wrote it, or a later one"
        )


def prepare(path: str, *, create: bool) -> None:
    """Makes directory and file if there is none and `create` is set.  Raises Unavailable."""
    directory = os.path.dirname(path)
    if not create and not os.path.exists(path):
        raise Unavailable(f"{path} does not exist", hint=f"see how it is mounted: findmnt -T {directory}")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        refuse_network_file_system(path, mounted_type(directory))
        with suppress(FileExistsError):
            os.mknod(path, 0o600 | stat.S_IFREG)
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unavailable(f"{path} is not a file", hint=_ELSEWHERE)
    except OSError as e:
        reason = f"{e.filename}: {e.strerror}" if e.filename not in (None, path) else e.strerror
        raise Unavailable(f"{path} cannot be made: {reason}", hint=f"see who may: ls -la {directory}") from e


def refuse_network_file_system(path: str, file_system: str | None) -> None:
    if file_system in NETWORK_FILE_SYSTEMS:
        raise Unavailable(
            f"{path} lies on {file_system}, and SQLite cannot share a database over a network",
            hint="use a local disk",
        )


def mounted_type(directory: str) -> str | None:
    """The type of the file system that holds `directory`; None where the mount table does not tell (btrfs)."""
    device = os.stat(directory).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
        for line in table:
            mount, _, source = line.partition(" - ")
            if mount.split(" ")[2] == wanted:
                return source.split(" ")[0]
    return None


def _inode(path: str) -> tuple[int, int] | None:
    """Not opened to look: see the top."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 where the module itself complains."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _unavailable(path: str, error: sqlite3.Error) -> Unavailable:
    directory = os.path.dirname(path)
    words, hint = _REASONS.get(_code(error), ("cannot be used", _MOVE_AWAY))
    return Unavailable(f"{path} {words} ({error})", hint=hint.format(path=path, directory=directory))
