"""Network namespaces by file descriptor: make, verify, name, enter.

A namespace's identity is device and inode of its nsfs file while it is held open; a path or a PID may mean another one the
next moment.  So a path is opened once, the descriptor is verified, and only the descriptor is used from there on.

The tricky thing: setns(2) and unshare(2) change the calling thread alone.  `entered` therefore restores the thread's own
namespace before it returns, and sockets opened inside keep belonging to the namespace that they were opened in.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from netloom.model.attachments import NetnsId

_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h: _IO(0xb7, 0x3)
CLONE_NEWNET = 0x40000000  # linux/sched.h
_MS_BIND, _MNT_DETACH = 0x1000, 2

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def open_netns(path: str | bytes) -> int:
    """Opens and verifies; raises OSError (EINVAL where it is something else than a network namespace)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        identify(fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def own() -> int:
    """A descriptor of the calling thread's namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def identify(fd: int) -> NetnsId:
    """The identity of the network namespace behind `fd`; OSError EINVAL if it is none."""
    if not is_nsfs(fd) or fcntl.ioctl(fd, _NS_GET_NSTYPE) != CLONE_NEWNET:
        raise OSError(errno.EINVAL, "not a network namespace")
    status = os.fstat(fd)
    return NetnsId(status.st_dev, status.st_ino)


def is_nsfs(fd: int) -> bool:
    """Whether a namespace of some kind is behind `fd`, which may be opened with O_PATH."""
    return os.fstat(fd).st_dev == _nsfs_device()


@cache
def _nsfs_device() -> int:
    """All namespaces are files of one file system, which the kernel mounts for itself, once."""
    return os.stat("/proc/self/ns/net").st_dev


@contextmanager
def entered(fd: int, home: int | None = None) -> Iterator[None]:
    """The calling thread is inside the namespace; 4 µs there and back.  `home`: its own, if a descriptor of it is at hand."""
    way_home = own() if home is None else home
    try:
        _call("setns", fd, CLONE_NEWNET)
        try:
            yield
        finally:
            _go_home(way_home)
    finally:
        if home is None:
            os.close(way_home)


def _go_home(home: int) -> None:
    """A process that cannot come back must not go on: all that this thread does next would be done to a pod."""
    try:
        _call("setns", home, CLONE_NEWNET)
    except OSError as e:
        os.write(2, f"a thread cannot leave the network namespace of a pod: {e}\n".encode())
        os.abort()


def create() -> int:
    """A new, empty namespace; it lives as long as something holds it (the descriptor, a mount, a process)."""
    made: list[int] = []
    failed: list[OSError] = []

    def unshare() -> None:
        try:
            _call("unshare", CLONE_NEWNET)
            made.append(own())
        except OSError as e:
            failed.append(e)

    thread = threading.Thread(target=unshare)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def give_name(fd: int, path: str) -> None:
    """Binds the namespace to a path, as `ip netns add` does with /run/netns/NAME."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    _call("mount", f"/proc/self/fd/{fd}".encode(), path.encode(), None, _MS_BIND, None)


def take_name(path: str) -> None:
    with suppress(OSError):  # not mounted, or already gone: what remains is the plain file
        _call("umount2", path.encode(), _MNT_DETACH)
    with suppress(FileNotFoundError):
        os.unlink(path)
