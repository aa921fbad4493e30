"""Who holds a namespace, while processes come and go."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from netloom.dataplane import netns
from netloom.dataplane.sandboxes import Sandboxes
from tests.waiting import eventually


def test_a_process_that_ends_while_it_is_looked_at_holds_nothing(pod: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no sandbox would be found dead for its sake, and a DEL that comes twice would be refused."""
    unheld, own, look = netns.identify(pod), os.readlink("/proc/self/ns/mnt"), os.readlink
    with subprocess.Popen(["unshare", "--mount", "sleep", "60"]) as ending:
        mounts = f"/proc/{ending.pid}/ns/mnt"
        eventually(lambda: look(mounts) != own)

        def look_and_end(path: str) -> str:
            found = look(path)
            if path == mounts:
                ending.kill()
                os.waitid(os.P_PID, ending.pid, os.WEXITED | os.WNOWAIT)
            return found

        monkeypatch.setattr(os, "readlink", look_and_end)
        assert not Sandboxes().alive(unheld)
        monkeypatch.undo()
        assert ending.wait() < 0


def test_a_process_that_has_ended_when_it_is_looked_at_holds_nothing(pod: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment the kernel finds its directory, and refuses what is in it."""
    unheld, stat = netns.identify(pod), os.stat
    with subprocess.Popen(["sleep", "60"]) as ending:
        place = f"/proc/{ending.pid}/ns/net"

        def end_and_refuse(path: str) -> os.stat_result:
            if path == place:
                ending.kill()
                ending.wait()
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return stat(path)

        monkeypatch.setattr(os, "stat", end_and_refuse)
        assert not Sandboxes().alive(unheld)
        assert ending.returncode is not None


def test_who_cannot_be_looked_at_may_hold_anything(pod: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unheld, stat = netns.identify(pod), os.stat
    with subprocess.Popen(["sleep", "60"]) as hidden:

        def refuse(path: str) -> os.stat_result:
            if path == f"/proc/{hidden.pid}/ns/net":
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return stat(path)

        monkeypatch.setattr(os, "stat", refuse)
        assert Sandboxes().alive(unheld)
        hidden.kill()
