"""Files that survive a crash: all of the new content under a name, or all of the old."""

from __future__ import annotations

import os


def write_durably(path: str, data: bytes | bytearray, mode: int = 0o600, group: int | None = None) -> None:
    """Temporary file, fsync, rename, fsync of the directory.  `mode` as far as the umask lets it, and all of it where it is for a
    `group`; a planted symbolic link is not followed."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        if group is not None:
            os.fchown(fd, -1, group)
            os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
