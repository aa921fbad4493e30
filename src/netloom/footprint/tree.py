"""A file tree below a root, seen as the machine sees it whose root that is: an image, a test's folder, or `/` itself.

The tricky thing are symbolic links.  In an image, `/opt/cni -> /srv/cni` means the image's own /srv, and an opened path would
lead to that of this very host.  So each path is walked part by part, by descriptors, and a link's target starts again at our root
when it is absolute; `..` never leads above it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from netloom.durable import write_durably
from netloom.errors import ConfigError

_LONGEST = 4 << 20  # bytes of a file that may be ours
_MOST_LINKS = 40  # as the kernel's own limit
_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """`content` None: it is no plain file, or too long to be one of ours."""

    content: bytes | None
    mode: int


class Tree:
    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)
        if not os.path.isdir(self.root):
            raise ConfigError("is not a directory", where=root, path="--root", hint=f"mkdir -p {root}")

    @property
    def is_host(self) -> bool:
        return self.root == "/"

    @contextmanager
    def held(self) -> Iterator[None]:
        """For one process at a time; nothing is left of it.  Raises ConfigError: another one is at work.  A host's /etc is what makes it
        that host: containers and trials may share its root."""
        fd = os.open("/etc" if self.is_host else self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                hint = "wait for it, and look what it has done: netloom system install --dry-run"
                raise ConfigError("another install or uninstall is at work", where=self.root, hint=hint) from e
            yield
        finally:
            os.close(fd)

    def look(self, path: str) -> Found | None:
        """What is at this place; None where nothing is."""
        with _named(path):
            try:
                with self._folder(os.path.dirname(path)) as folder:
                    return _look(folder, os.path.basename(path))
            except FileNotFoundError:
                return None

    def names(self, path: str) -> list[str]:
        """Of what is in this directory, sorted; none where there is no such directory."""
        with _named(path):
            try:
                with self._folder(path) as folder:
                    return sorted(os.listdir(_real(folder)))
            except FileNotFoundError:
                return []

    def missing_directories(self, path: str) -> list[str]:
        """This directory and those above it that are not there, the outermost first."""
        missing: list[str] = []
        while path != "/" and not self.exists(path):
            missing.insert(0, path)
            path = os.path.dirname(path)
        return missing

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        with _named(path), self._folder(os.path.dirname(path)) as folder, suppress(FileExistsError):
            os.mkdir(os.path.basename(path), mode, dir_fd=folder)
            os.chmod(os.path.basename(path), mode, dir_fd=folder)

    def remove_directory(self, path: str) -> bool:
        """Where it is there and empty."""
        try:
            with _named(path), self._folder(os.path.dirname(path)) as folder:
                os.rmdir(os.path.basename(path), dir_fd=folder)
        except ConfigError as e:
            if isinstance(e.__cause__, OSError) and e.__cause__.errno in (
                errno.ENOTEMPTY,
                errno.ENOENT,
                errno.EEXIST,
                errno.ENOTDIR,
            ):
                return False
            raise
        return True

    def put(self, path: str, content: bytes, mode: int) -> None:
        """Whole or not at all, by a rename: who runs the old file goes on with it."""
        mask = os.umask(0)
        try:
            with _named(path), self._folder(os.path.dirname(path)) as folder:
                with suppress(FileNotFoundError):  # of a killed one; it might be another name of something else
                    os.unlink(f"{os.path.basename(path)}.new", dir_fd=folder)
                write_durably(f"{_real(folder)}/{os.path.basename(path)}", content, mode)
        finally:
            os.umask(mask)

    def move(self, path: str, name: str) -> None:
        """Another name in the same directory."""
        with _named(path), self._folder(os.path.dirname(path)) as folder:
            os.rename(os.path.basename(path), name, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, path: str) -> bool:
        """The file, and what a killed `put` may have left beside it.  False: it was not there."""
        removed = False
        with _named(path), suppress(FileNotFoundError), self._folder(os.path.dirname(path)) as folder:
            for name in (f"{os.path.basename(path)}.new", os.path.basename(path)):
                try:
                    os.unlink(name, dir_fd=folder)
                    removed = True
                except FileNotFoundError:
                    removed = False
        return removed

    def exists(self, path: str) -> bool:
        """This directory."""
        try:
            with self._folder(path):
                return True
        except FileNotFoundError:
            return False
        except OSError as e:
            raise ConfigError(f"cannot be looked at: {e.strerror}", where=path) from e

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """A descriptor of the directory, by way of no link that leads out of the tree."""
        if not path.startswith("/"):
            raise ConfigError("is not an absolute path", where=path)
        way = [os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            self._walk(way, deque(path.split("/")))
            yield way[-1]
        finally:
            for fd in way:
                os.close(fd)

    def _walk(self, way: list[int], ahead: deque[str]) -> None:
        links = 0
        while ahead:
            part = ahead.popleft()
            if part in ("", "."):
                continue
            if part == "..":
                _back(way, max(1, len(way) - 1))
                continue
            try:
                way.append(os.open(part, _WALK, dir_fd=way[-1]))
            except NotADirectoryError:
                if not stat.S_ISLNK(os.lstat(part, dir_fd=way[-1]).st_mode):
                    raise
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                target = os.readlink(part, dir_fd=way[-1])
                if target.startswith("/"):
                    _back(way, 1)
                ahead.extendleft(reversed(target.split("/")))


def _back(way: list[int], length: int) -> None:
    while len(way) > length:
        os.close(way.pop())


def _real(folder: int) -> str:
    return f"/proc/self/fd/{folder}"


def _look(folder: int, name: str) -> Found:
    found = os.lstat(name, dir_fd=folder)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LONGEST:
        return Found(None, stat.S_IMODE(found.st_mode))
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(fd, "rb") as file:
        return Found(file.read(_LONGEST), stat.S_IMODE(found.st_mode))


@contextmanager
def _named(path: str) -> Iterator[None]:
    """What the system refuses becomes an error with the path as this tree has it; what is missing stays what it is inside."""
    try:
        yield
    except OSError as e:
        hint = "try it as root" if e.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0 else f"ls -ld {path}"
        raise ConfigError(f"cannot be used: {e.strerror}", where=path, hint=hint) from e
