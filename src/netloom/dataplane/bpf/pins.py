"""Pins: names in a bpffs, so that maps outlive the agent and are found again.

    FOLDER/senders      a map, as long as the file is there

What is pinned under a name with another shape is another edition's: it goes, and a new one takes its place.  A folder belongs to one
node: several may share a machine's bpffs (as in the lab), so whoever chooses the folder puts the node's name or namespace into it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path

from netloom.dataplane.bpf.maps import Map, Shape, map_info
from netloom.dataplane.bpf.system import BpfError, Command, address, bpf, buffer
from netloom.errors import DataplaneError

_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC
_libc = ctypes.CDLL(None, use_errno=True)


def is_bpffs(path: Path) -> bool:
    """Whether names in that folder can stand for maps and programs."""
    found = ctypes.create_string_buffer(256)
    done = _libc.statfs(os.fsencode(path), found)
    return done == 0 and int.from_bytes(found.raw[:8], "little") == _MAGIC


def mount(path: Path) -> None:
    """A bpffs of one's own there, unless there is one."""
    path.mkdir(parents=True, exist_ok=True)
    if not is_bpffs(path) and _libc.mount(b"netloom", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        code = ctypes.get_errno()
        raise DataplaneError("bpf", f"folder {path}", f"no bpffs can be mounted there: {os.strerror(code)}", errno=code)


def unmount(path: Path) -> None:
    if is_bpffs(path):
        _libc.umount2(os.fsencode(path), 2)


def pinned(folder: Path, name: str, shape: Shape) -> Map:
    """The map of that name, made if there is none."""
    path = folder / name
    found = _open(path)
    if found is not None:
        _, have = map_info(found, name)
        if have == shape:
            return Map(name, shape, found)
        os.close(found)
        path.unlink()
    made = Map.create(name, shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        where = buffer(os.fsencode(path) + b"\0")
        bpf(Command.PIN, "QI", address(where), made.fd, what=f"pin {path}")
    except (BpfError, OSError):
        made.close()
        raise
    return made


def number(path: Path) -> int | None:
    """The kernel's for a pinned map; None if it is gone."""
    fd = _open(path)
    if fd is None:
        return None
    try:
        return map_info(fd, path.name)[0]
    finally:
        os.close(fd)


def unpin(folder: Path) -> None:
    """All names of a folder, and the folder."""
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _open(path: Path) -> int | None:
    where = buffer(os.fsencode(path) + b"\0")
    try:
        return bpf(Command.GET, "QII", address(where), 0, 0, what=f"pin {path}")
    except BpfError as e:
        if e.errno == errno.ENOENT:
            return None
        raise
