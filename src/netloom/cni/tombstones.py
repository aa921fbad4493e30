"""Tombstones: DELs that came while no agent answered.  Each is a file that holds the request itself.

A client lays one down whole (written beside, then renamed) and has already said yes to the runtime.  They are taken up before
an ADD is served, in the order of their making, so that a DEL never overtakes the ADD that follows it.  One that cannot be read
is put aside and named: nothing may be inferred from it.

What a killed client left half written is removed at a start.  A client that is still at it then fails to rename, says so, and the
runtime repeats its DEL.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress

from netloom.cni.messages import Delete, parse
from netloom.cni.protocol import REQUEST_LIMIT, TOMBSTONES, unpack_request
from netloom.errors import CniError
from netloom.model.attachments import AttachmentKey

log = logging.getLogger(__name__)

_UNFINISHED = "."  # names that a client is still writing begin so
_DAMAGED = ".damaged"


class Tombstones:
    def __init__(self, run_dir: str) -> None:
        self._path = f"{run_dir}/{TOMBSTONES}"
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        self._remove_unfinished()

    def waiting(self) -> bool:
        """Some 5 µs when there is nothing, so every ADD asks.  (The directory's time of change would be too coarse: two changes in
        one tick of the clock look like one.)"""
        return any(not name.startswith(_UNFINISHED) for name in os.listdir(self._path))

    async def take_up(self, delete: Callable[[AttachmentKey], Awaitable[None]]) -> None:
        """Raises OSError where one cannot be read now: nothing may overtake it."""
        for name in self._names():
            try:
                key = self._read(name)
            except FileNotFoundError:
                continue  # taken up meanwhile, for another ADD
            except (CniError, ValueError) as e:
                log.warning("tombstone %s cannot be read, put aside: %s", name, e)
                os.rename(f"{self._path}/{name}", f"{self._path}/.{name}{_DAMAGED}")
                continue
            try:
                await delete(key)
            except CniError as e:  # the journal says LEAVING by now: it is tried again from there
                log.warning("%s", e)
            with suppress(FileNotFoundError):
                os.unlink(f"{self._path}/{name}")

    def _remove_unfinished(self) -> None:
        for name in os.listdir(self._path):
            if name.startswith(_UNFINISHED) and not name.endswith(_DAMAGED):
                with suppress(FileNotFoundError):
                    os.unlink(f"{self._path}/{name}")

    def _names(self) -> list[str]:
        """Oldest first."""
        with os.scandir(self._path) as entries:
            found = [(e.stat(follow_symlinks=False).st_mtime_ns, e.name) for e in entries if not e.name.startswith(_UNFINISHED)]
        return [name for _, name in sorted(found)]

    def _read(self, name: str) -> AttachmentKey:
        try:
            fd = os.open(f"{self._path}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.ENXIO):
                raise ValueError("is no file") from e
            raise
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ValueError("is no file")
            call = unpack_request(os.read(fd, REQUEST_LIMIT + 1))
        finally:
            os.close(fd)
        request = parse(call.environment, call.stdin, None, None)
        if not isinstance(request, Delete):
            raise ValueError("is no DEL")  # noqa: TRY004  # a value of the wrong kind in a file, not a wrong argument
        return request.key
