"""The doorbell: after a commit, every process that watches the same database file wakes at once.

It is one word in a small file beside the database, which every watcher maps and sleeps on with futex(2).  To ring is to
write another value there and to wake all sleepers.  The kernel names a futex in a mapped file by inode and offset, so
processes in other mount, network and PID namespaces hear it; there is nothing to register, nothing to clean up after a process
that was killed, no limit on sleepers, and a watcher that nobody rings for costs nothing.

The tricky thing is the moment between looking at the log and falling asleep.  A watcher reads the word first, then the log,
then sleeps only while the word is still the same; a change in between ends the sleep before it starts.  So values must not
repeat: they are random.  The doorbell carries no data, and whoever relies on it also looks once in a while without it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import threading
import time
from contextlib import suppress

_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "loongarch64": 98, "ppc64le": 221, "s390x": 238}.get(platform.machine())
"""Number of futex(2), from each architecture's unistd.h; None: not known, `wait` then polls."""
_WAIT, _WAKE = 0, 1  # linux/futex.h; without FUTEX_PRIVATE_FLAG, since other processes take part
_EVERYBODY = 0x7FFFFFFF
_ASLEEP_NO_MORE = (errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT)
_POLL = 0.02  # seconds, where the kernel has no futex for us
_SIZE = 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Doorbell:
    def __init__(self, path: str) -> None:
        """Makes the file if there is none.  Raises OSError."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._ringing = threading.Lock()
        try:
            if os.fstat(self._fd).st_size < _SIZE:
                os.pwrite(self._fd, bytes(_SIZE), 0)
            self._word = ctypes.c_uint32.from_buffer(mmap.mmap(self._fd, _SIZE))
        except BaseException:
            os.close(self._fd)
            raise

    def word(self) -> int:
        return self._word.value

    def wait(self, word: int, timeout: float) -> None:
        """Sleeps while the word is `word`, at most `timeout` seconds; may return early for no reason."""
        whole = int(timeout)
        limit = _Timespec(whole, int((timeout - whole) * 1e9))
        if not self._futex(_WAIT, word, ctypes.byref(limit)):
            time.sleep(min(timeout, _POLL))

    def ring(self) -> None:
        with self._ringing:
            if self._fd < 0:
                return
            # By pwrite, not through the map: on a full disk that is an error, and a store would be SIGBUS.  Whoever
            # sleeps already is woken all the same, others look by themselves in a while.
            with suppress(OSError):
                os.pwrite(self._fd, os.urandom(_SIZE), 0)
            self._futex(_WAKE, _EVERYBODY, None)

    def close(self) -> None:
        """Wakes everybody.  The map goes when the last sleeper has left `wait`."""
        self.ring()
        with self._ringing:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _futex(self, operation: int, value: int, timeout: object) -> bool:
        """False: the kernel cannot do it."""
        if _FUTEX is None:
            return False
        arguments = ctypes.byref(self._word), operation, ctypes.c_uint32(value), timeout, None, 0
        return _libc.syscall(_FUTEX, *arguments) >= 0 or ctypes.get_errno() in _ASLEEP_NO_MORE
