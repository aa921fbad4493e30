"""The journal on a tmpfs that is full: RUN_DIR is one."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.errors import JournalUnwritable
from netloom.ipam.journal import Journal
from tests.pure.ipam.making import BOOT, NETNS, attachment, key

SIZE = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MiB."""
    if libc.mount(b"tmpfs", str(tmp_path).encode(), b"tmpfs", 0, f"size={SIZE}".encode()):
        raise OSError(ctypes.get_errno(), "mount")
    yield tmp_path
    libc.umount2(str(tmp_path).encode(), 2)  # MNT_DETACH


def fill(directory: Path) -> None:
    with open(directory / "ballast", "wb", buffering=0) as ballast:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while ballast.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def test_every_pod_that_got_in_gets_out_of_a_full_disk(small: Path) -> None:
    path = str(small / "journal")
    journal = Journal.rebuild(path, BOOT, NETNS)
    names = []
    with pytest.raises(JournalUnwritable, match="No space left on device"):
        for number in range(100_000):
            name = f"p{number}".ljust(64, "x")
            journal.intend(attachment(name, journal.next_sequence(), f"10.{number >> 8 & 255}.{number & 255}.1/32"))
            names.append(name)
            if number == 500:
                fill(small)
    before = dict(journal.attachments)

    for name in names:
        journal.commit(key(name))
    for name in names:
        journal.leave(key(name))
        journal.done(key(name), 1.0)
        assert not journal.owes

    assert len(before) == len(names) > 500
    journal.close()
    again = Journal.open(path, BOOT, NETNS)
    assert again.attachments == {}
    os.unlink(small / "ballast")
    again.intend(attachment("later", again.next_sequence(), "10.0.0.1/32"))
    again.close()


def test_an_agent_that_starts_on_a_full_disk_still_serves_dels(small: Path) -> None:
    path = str(small / "journal")
    journal = Journal.rebuild(path, BOOT, NETNS)
    for number in range(100):
        journal.intend(attachment(f"p{number}", journal.next_sequence(), f"10.0.{number}.1/32"))
        journal.commit(key(f"p{number}"))
    journal.close()
    fill(small)
    again = Journal.open(path, BOOT, NETNS)
    with pytest.raises(JournalUnwritable):
        for number in range(1000):
            again.intend(attachment(f"q{number}", again.next_sequence(), f"10.1.{number & 255}.1/32"))
    for number in range(100):
        again.done(key(f"p{number}"), 1.0)
    assert not any(k.container_id.startswith("p") for k in again.attachments)
    again.close()
