"""iptables' legacy variant has one lock for all: whoever holds it holds up the passage, and nobody else."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import pytest

from netloom.dataplane import netns
from tests.agent_process import running_machine
from tests.cni_calls import NATIVE, Runtime
from tests.kernel.iproute import run
from tests.waiting import eventually


def test_a_lock_that_others_hold_holds_up_no_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    with running_machine() as machine, netns.entered(machine.netns):
        run("iptables-legacy -P FORWARD DROP")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            runtime, end, slowest = Runtime(machine.run_dir, NATIVE), time.monotonic() + 6, 0.0
            while time.monotonic() < end:
                with machine.sandbox() as sandbox:
                    start = time.monotonic()
                    assert runtime("ADD", sandbox).ok and runtime("DEL", sandbox).ok
                    slowest = max(slowest, time.monotonic() - start)
            assert slowest < 1
        eventually(lambda: "-A FORWARD -j NETLOOM-FORWARD" in run("iptables-legacy -S"), 12)
