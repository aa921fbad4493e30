"""iptables' legacy variant has one lock for all: whoever holds it holds up the passage, and nobody else."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from netloom.dataplane import netns
from tests.agent_process import HASTY, running_machine
from tests.cni_calls import NATIVE, Runtime
from tests.kernel.iproute import run
from tests.waiting import eventually


def test_a_lock_that_others_hold_holds_up_no_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    with running_machine(command=HASTY) as machine, netns.entered(machine.netns):
        run("iptables-legacy -P FORWARD DROP")
        runtime = Runtime(machine.run_dir, NATIVE)
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            eventually(lambda: waited_for(lock))
            for _ in range(20):
                with machine.sandbox() as sandbox:
                    assert runtime("ADD", sandbox).ok and runtime("DEL", sandbox).ok
            eventually(lambda: waited_for(lock))
        eventually(lambda: "-A FORWARD -j NETLOOM-FORWARD" in run("iptables-legacy -S"))


def waited_for(lock: Path) -> bool:
    """Whether somebody stands in the line."""
    place = f":{lock.stat().st_ino} "
    return any("->" in line and place in line for line in Path("/proc/locks").read_text().splitlines())
