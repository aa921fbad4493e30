"""The journal: this node's own record of its attachments, and the authority for which addresses are in use here.

An append-only file in RUN_DIR, which is a tmpfs: attachments live as long as the boot, and so does the file; hence no fsync.
One record per line, `CRC32 JSON`; the first line is the header (format, boot, network namespace, sequence number so far).

    intend   before the first side effect of an ADD            → PENDING
    commit   when everything is in place, before the answer    → READY
    leave    before a DEL takes the first thing away           → LEAVING
    done     when the kernel has proven that all is gone; the addresses cool from then on

A killed agent finds everything again by replaying the file.  Whole records are written by one write(2), so a kill can only
leave a torn last line, which is cut off: its writer never went on.  Anything else that does not fit is damage, and so is a
missing file: then the kernel's links are asked (`Journal.rebuild`), in which an agent that is new to this boot finds none.

The tricky thing is a full disk.  Room for the rest of every attachment's life is reserved (fallocate, beyond the end of the
file) before its intent is written: an ADD fails before anything happened, a DEL never lacks space.  Where a record of a DEL
still cannot be written (an I/O error, a file system that cannot reserve), the DEL goes on and the record is owed: it
precedes the next one.  An agent killed meanwhile finds the attachment in an earlier state, its addresses held too long
rather than too short.

Not for several threads: the agent's loop is the only one that writes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from netloom.errors import ConfigError, JournalDamaged, JournalUnwritable
from netloom.ipam.holdings import Gone, Hold, Holdings, Mark, Record, Size
from netloom.ipam.journal_lines import Header, line, read
from netloom.model.addresses import Prefix
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, State

COMPACT_AT = 256 << 10
"""Bytes that a journal grows by before it is written anew: some 400 pods' lives."""

_REST_OF_LIFE = 256  # bytes: commit, leave and done of one attachment
_RESERVE_AHEAD = 64 << 10  # bytes: one fallocate for about a hundred ADDs
_FALLOC_FL_KEEP_SIZE = 1  # linux/falloc.h

_libc = ctypes.CDLL(None, use_errno=True)


def boottime() -> float:
    """Seconds since boot, those asleep included.  It stands above every stamp of this boot, whatever the wall clock does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """Open for writing.  `holdings` is what the file says; only this class changes it.

    compact_at: bytes to grow by before the file is written anew.
    """

    def __init__(self, path: str, lock: int, header: Header, holdings: Holdings, compact_at: int) -> None:
        self.holdings = holdings
        self._path, self._lock, self._header, self._growth = path, lock, header, compact_at
        self._fd, self._size, self._reserved, self._compact_at = -1, 0, 0, 0
        self._owed, self._torn = b"", False

    @classmethod
    def open(cls, path: str, boot_id: str, netns_id: NetnsId, *, compact_at: int = COMPACT_AT) -> Journal:
        """Replays the file; of another boot nothing is left.  Raises JournalDamaged: rebuild it.  ConfigError: it is in use."""
        lock = _lock(path)
        try:
            found = read(path)
            if found.header.boot != boot_id:
                return cls._written_anew(path, lock, Header(boot=boot_id, netns=netns_id), Holdings(), compact_at)
            if found.header.netns != netns_id:
                raise JournalDamaged(f"{path} belongs to network namespace {found.header.netns}, this is {netns_id}")
            journal = cls(path, lock, found.header, found.holdings, compact_at)
            journal._continue(found.length)
        except BaseException:
            os.close(lock)
            raise
        return journal

    @classmethod
    def rebuild(
        cls,
        path: str,
        boot_id: str,
        netns_id: NetnsId,
        attachments: Iterable[Attachment] = (),
        *,
        compact_at: int = COMPACT_AT,
    ) -> Journal:
        """A new file with what the kernel shows; the old one is kept as `PATH.damaged`.

        Attachments get new sequence numbers.  They start at the microseconds since boot, which is more than any journal of
        this boot can have counted to.
        """
        lock = _lock(path)
        try:
            with suppress(FileNotFoundError):
                os.replace(path, f"{path}.damaged")
            holdings = Holdings(int(boottime() * 1e6))
            for attachment in attachments:
                holdings.apply(Hold(msgspec.structs.replace(attachment, sequence=holdings.sequence + 1)))
            return cls._written_anew(path, lock, Header(boot=boot_id, netns=netns_id), holdings, compact_at)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _written_anew(cls, path: str, lock: int, header: Header, holdings: Holdings, compact_at: int) -> Journal:
        journal = cls(path, lock, header, holdings, compact_at)
        try:
            journal._rewrite()
        except OSError as e:
            raise JournalUnwritable(f"{path} cannot be written: {e.strerror}") from e
        return journal

    @property
    def attachments(self) -> dict[AttachmentKey, Attachment]:
        """A copy: it does not change while a pass goes over it."""
        return dict(self.holdings.attachments)

    @property
    def owes(self) -> bool:
        """Whether records of DELs wait to be written: the disk is full or failing."""
        return bool(self._owed)

    def get(self, key: AttachmentKey) -> Attachment | None:
        return self.holdings.attachments.get(key)

    def next_sequence(self) -> int:
        return self.holdings.sequence + 1

    def intend(self, attachment: Attachment) -> None:
        """Before the first side effect.  Raises JournalUnwritable: nothing has happened.  ValueError: the key, a sequence
        number or an address is taken already, which the caller has to see to."""
        if attachment.state is not State.PENDING or attachment.sequence <= self.holdings.sequence:
            raise ValueError(f"{attachment.key} with sequence number {attachment.sequence} is not a new intent")
        if attachment.key in self.holdings.attachments:
            raise ValueError(f"{attachment.key} is attached already")
        for interface in attachment.addresses:
            if holder := self.holdings.holder(interface.ip):
                raise ValueError(f"{interface.ip} is held by {holder.key}")
        record = Hold(attachment)
        self._append(line(record), reserve=len(self.holdings.attachments) + 1)
        self.holdings.apply(record)

    def commit(self, key: AttachmentKey, secondary: tuple[int, ...] = ()) -> None:
        """Before the answer.  `secondary`: see Attachment.  Raises JournalUnwritable: the ADD has to be undone.  ValueError: it is
        not PENDING."""
        attachment = self.get(key)
        if attachment is None or attachment.state is not State.PENDING:
            raise ValueError(f"{key} is not pending")
        record = Mark(attachment.sequence, State.READY, secondary)
        self._append(line(record))
        self.holdings.apply(record)

    def resize(self, key: AttachmentKey, mtu: int) -> None:
        """After its interfaces have it.  Raises JournalUnwritable: they are to be set again.  ValueError: there is no such attachment."""
        attachment = self.get(key)
        if attachment is None:
            raise ValueError(f"{key} is not attached")
        record = Size(attachment.sequence, mtu)
        self._append(line(record))
        self.holdings.apply(record)

    def leave(self, key: AttachmentKey) -> Attachment | None:
        """Gives what is to be taken away, or None if there is nothing.  It may be called again."""
        attachment = self.get(key)
        if attachment is not None and attachment.state is not State.LEAVING:
            self._owe(Mark(attachment.sequence, State.LEAVING))
        return self.get(key)

    def done(self, key: AttachmentKey, now: float) -> None:
        """The kernel holds nothing of it any more; `now` in seconds of CLOCK_BOOTTIME.  It may be called again."""
        attachment = self.leave(key)
        if attachment is not None:
            self._owe(Gone(attachment.sequence, now))
            if self._size >= self._compact_at:
                self._compact()

    def forget(self, cidr: Prefix) -> None:
        """A block is given back: when its addresses were released does not matter any more."""
        self.holdings.forget(cidr)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._lock)

    def _owe(self, record: Record) -> None:
        """Applies it whatever the disk says."""
        self.holdings.apply(record)
        try:
            self._append(line(record))
        except JournalUnwritable:
            self._owed += line(record)

    def _continue(self, length: int) -> None:
        """Goes on in the file that is there, after `length` bytes."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
            os.ftruncate(fd, length)
        except OSError as e:
            raise JournalUnwritable(f"{self._path} cannot be written: {e.strerror}") from e
        self._adopt(fd, length, reserved=length)
        with suppress(OSError):  # full: what reserved room before may have lost it to the cut; its DEL may then be owed
            self._reserve(length + _REST_OF_LIFE * len(self.holdings.attachments))

    def _append(self, record: bytes, *, reserve: int = 0) -> None:
        """`reserve`: how many attachments there will be, where that grows."""
        try:
            if self._torn:
                self._rewrite()
            data = self._owed + record
            if reserve:
                self._reserve(self._size + len(data) + _REST_OF_LIFE * reserve)
            written = os.write(self._fd, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as e:
            self._cut()
            raise JournalUnwritable(f"{self._path} cannot be written: {e.strerror}", hint="make room: df -h /run") from e
        self._size += written
        self._owed = b""

    def _cut(self) -> None:
        """Takes half a record back.  Where even that fails, the next write begins with a new file."""
        try:
            if os.fstat(self._fd).st_size != self._size:
                os.ftruncate(self._fd, self._size)
                self._reserved = self._size
        except OSError:
            self._torn = True

    def _reserve(self, end: int) -> None:
        if end > self._reserved:
            goal = end + _RESERVE_AHEAD
            self._reserved = goal if _allocate(self._fd, goal) else sys.maxsize

    def _compact(self) -> None:
        try:
            self._rewrite()
        except OSError:
            self._compact_at = self._size + self._growth

    def _rewrite(self) -> None:
        """The present state as a new file, put in place by rename; on failure the old one stays."""
        header = msgspec.structs.replace(self._header, sequence=self.holdings.sequence)
        data = b"".join((line(header), *map(line, self.holdings.records())))
        temporary = f"{self._path}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            reserved = len(data) + _REST_OF_LIFE * len(self.holdings.attachments)
            _allocate(fd, reserved)
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.rename(temporary, self._path)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._owed, self._torn = b"", False
        self._adopt(fd, len(data), reserved)

    def _adopt(self, fd: int, size: int, reserved: int) -> None:
        self._fd, self._size, self._reserved = fd, size, reserved
        self._compact_at = size + self._growth


def _allocate(fd: int, length: int) -> bool:
    """Takes room for `length` bytes from the start without making the file longer; False where the file system cannot."""
    if _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(length)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))


def _lock(path: str) -> int:
    """A lock beside the journal, for the journal itself is replaced by rename.  The kernel lets go of it when its process dies."""
    try:
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as e:
        raise ConfigError(f"the journal cannot be kept: {e.strerror}", where=path) from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(fd)
        hint = "end the other one, or give this one its own runDir"
        raise ConfigError("another agent is running on this directory", where=path, hint=hint) from e
    return fd
