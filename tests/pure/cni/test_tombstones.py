"""Tombstones: every DEL that was laid down is taken up once, in order, and what is none stands in nobody's way."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from pathlib import Path

import pytest

from netloom.cni.protocol import pack_request
from netloom.cni.tombstones import Tombstones
from netloom.errors import CniError
from netloom.model.attachments import AttachmentKey

CONFIG = json.dumps({"cniVersion": "1.1.0", "name": "net"}).encode()


def frame(container: str, command: str = "DEL") -> bytes:
    variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}
    return pack_request(variables, CONFIG)


def key(container: str) -> AttachmentKey:
    return AttachmentKey("net", container, "eth0")


@pytest.fixture
def tombstones(tmp_path: Path) -> Tombstones:
    return Tombstones(str(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tombstones"


def taken_up(tombstones: Tombstones, times: int = 1, *, refused: str = "") -> list[AttachmentKey]:
    """The keys that were deleted, by so many at the same time; `refused`: this one cannot be removed yet."""
    found = []

    async def delete(key: AttachmentKey) -> None:
        await asyncio.sleep(0)
        found.append(key)
        if key.container_id == refused:
            raise CniError(102, "cannot be removed yet")

    async def all_at_once() -> None:
        await asyncio.gather(*(tombstones.take_up(delete) for _ in range(times)))

    asyncio.run(all_at_once())
    return found


def lay(folder: Path, name: str, content: bytes, at: int) -> None:
    (folder / name).write_bytes(content)
    os.utime(folder / name, ns=(at, at))


def test_they_are_taken_up_in_the_order_of_their_making(tombstones: Tombstones, folder: Path) -> None:
    for at, name in ((3, "a"), (1, "b"), (2, "c")):
        lay(folder, name, frame(name), at)
    assert tombstones.waiting()
    assert taken_up(tombstones) == [key("b"), key("c"), key("a")]
    assert not tombstones.waiting() and os.listdir(folder) == []


def test_one_that_comes_in_the_same_tick_of_the_clock_is_seen(tombstones: Tombstones, folder: Path) -> None:
    lay(folder, "a", frame("a"), 1)
    taken_up(tombstones)
    before = os.stat(folder).st_mtime_ns
    lay(folder, "b", frame("b"), 2)
    os.utime(folder, ns=(before, before))
    assert tombstones.waiting()


def test_two_at_once_do_not_stumble_over_each_other(tombstones: Tombstones, folder: Path) -> None:
    for name in "abc":
        lay(folder, name, frame(name), ord(name))
    assert set(taken_up(tombstones, times=3)) == {key(name) for name in "abc"}
    assert os.listdir(folder) == []


def test_one_that_cannot_be_removed_yet_does_not_hold_up_the_others(tombstones: Tombstones, folder: Path) -> None:
    """It is in the journal by now, from where it is tried again."""
    for name in "ab":
        lay(folder, name, frame(name), ord(name))
    assert taken_up(tombstones, refused="a") == [key("a"), key("b")]
    assert not tombstones.waiting()


def test_what_is_no_tombstone_is_put_aside(tombstones: Tombstones, folder: Path) -> None:
    lay(folder, "empty", b"", 1)
    lay(folder, "torn", frame("x")[:-3], 1)
    lay(folder, "add", frame("x", "STATUS"), 1)
    lay(folder, "large", bytes(4 << 20), 1)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "nowhere").symlink_to("/nowhere")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(folder / "socket"))
    bound.close()
    lay(folder, "good", frame("good"), 2)
    assert taken_up(tombstones) == [key("good")]
    assert not tombstones.waiting()
    assert all(name.startswith(".") and name.endswith(".damaged") for name in os.listdir(folder))


def test_what_is_still_being_written_is_left_alone_and_taken_away_at_the_next_start(tmp_path: Path, folder: Path) -> None:
    tombstones = Tombstones(str(tmp_path))
    lay(folder, ".half", frame("x")[:10], 1)
    assert not tombstones.waiting()
    assert taken_up(tombstones) == [] and os.listdir(folder) == [".half"]
    Tombstones(str(tmp_path))
    assert os.listdir(folder) == []


def test_one_that_cannot_be_read_now_stays_and_nothing_goes_on_without_it(tombstones: Tombstones, folder: Path) -> None:
    lay(folder, "a", frame("a"), 1)

    async def out_of_descriptors() -> None:
        limits, fd = resource.getrlimit(resource.RLIMIT_NOFILE), os.dup(0)
        os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (fd, limits[1]))
        try:
            await tombstones.take_up(never)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    async def never(key: AttachmentKey) -> None:
        raise AssertionError(key)

    with pytest.raises(OSError, match="Too many open files"):
        asyncio.run(out_of_descriptors())
    assert taken_up(tombstones) == [key("a")]
