"""Who holds a namespace, while processes come and go."""

from __future__ import annotations

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
