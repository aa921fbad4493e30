"""A lab leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.errors import ConfigError, NetloomError
from netloom.lab import cluster, processes, record
from netloom.lab.topology import one_switch
from tests.lab.inventory import inventory


def start_up(name: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "netloom", "lab", "up", "--name", name, "--nodes", "2", "--pods", "2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def has_record(name: str) -> bool:
    return os.path.exists(record.folder(name, "lab.json"))


def has_a_namespace(name: str) -> bool:
    return os.path.exists(record.namespace_path(name, "switch"))


def has_an_agent(name: str) -> bool:
    with processes.found(name, "agent") as agents:
        return bool(agents)


def has_asked_for_pods(name: str) -> bool:
    return has_record(name) and bool(record.read(name).sandboxes)


def has_a_responder(name: str) -> bool:
    with processes.found(name, "responder") as responders:
        return bool(responders)


POINTS = (has_record, has_a_namespace, has_an_agent, has_asked_for_pods, has_a_responder)
points = pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)


def interrupt(name: str, point: Callable[[str], bool], number: signal.Signals) -> int:
    """Sends the signal to a `lab up` as soon as it has come to the point; its exit code.  One that was at its end before this process
    got the processor again has not been interrupted: its lab goes, and the next one is."""
    while True:
        with start_up(name) as process:
            deadline = time.monotonic() + 60
            while not point(name) and not has_ended(process):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if not is_up(name):
                process.send_signal(number)
                process.send_signal(signal.SIGCONT)
                process.communicate(timeout=120)
                return process.returncode
            process.kill()
        cluster.down(name)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """It stays to be waited for."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def is_up(name: str) -> bool:
    """Whether its `up` has nothing more to do, but to say so."""
    try:
        return record.read(name).complete
    except NetloomError:
        return False


def test_a_lab_that_was_up_leaves_nothing(lab_name: str) -> None:
    before = inventory(lab_name)
    cluster.up(one_switch(lab_name, nodes=2, pods=2))
    during = inventory(lab_name)
    assert len(during.namespaces) == 1 + 1 + 2 + 2
    assert len(during.processes) >= 2 + 1
    assert during.links == before.links
    assert cluster.down(lab_name)
    assert inventory(lab_name) == before


@points
def test_what_a_killed_up_has_made_is_taken_down(lab_name: str, point: Callable[[str], bool]) -> None:
    before = inventory(lab_name)
    assert interrupt(lab_name, point, signal.SIGKILL) == -signal.SIGKILL
    assert inventory(lab_name) != before
    assert cluster.down(lab_name)
    assert inventory(lab_name) == before


@points
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_up_takes_everything_down_by_itself(
    lab_name: str, point: Callable[[str], bool], number: signal.Signals
) -> None:
    before = inventory(lab_name)
    assert interrupt(lab_name, point, number) in (130, 143)
    assert inventory(lab_name) == before


def test_a_lab_whose_record_is_lost_is_found_by_its_marks(lab_name: str) -> None:
    before = inventory(lab_name)
    cluster.up(one_switch(lab_name, nodes=2, pods=2))
    shutil.rmtree(record.folder(lab_name))
    assert cluster.down(lab_name)
    assert inventory(lab_name) == before


def test_down_may_be_said_again_and_of_a_lab_that_never_was(lab_name: str) -> None:
    assert not cluster.down(lab_name)
    assert not cluster.down(lab_name)
    assert not os.path.exists(record.folder(lab_name))


def test_a_failure_on_the_way_up_is_told_and_leaves_nothing(lab_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = inventory(lab_name)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "no-such-folder"))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Exception, match="agent of node-0 ended before it was ready"):
        cluster.up(one_switch(lab_name, nodes=1, pods=1))
    assert inventory(lab_name) == before


def test_a_lab_is_not_built_over_another_of_its_name(lab_name: str) -> None:
    cluster.up(one_switch(lab_name, nodes=1, pods=0))
    with pytest.raises(ConfigError, match="is there already"):
        cluster.up(one_switch(lab_name, nodes=1, pods=0))
    assert cluster.open_lab(lab_name).record.complete


def test_taking_a_lab_down_leaves_one_with_a_longer_name_alone(lab_name: str) -> None:
    other = f"{lab_name}-b"
    try:
        cluster.up(one_switch(lab_name, nodes=1, pods=1))
        cluster.up(one_switch(other, nodes=1, pods=1))
        there = inventory(other)
        cluster.down(lab_name)
        assert inventory(other) == there
    finally:
        cluster.down(other)


def test_a_stranger_in_a_namespace_of_the_lab_does_not_keep_it(lab_name: str) -> None:
    """What `lab exec` started ends with the lab."""
    cluster.up(one_switch(lab_name, nodes=1, pods=1))
    shell = subprocess.Popen(
        [sys.executable, "-m", "netloom", "lab", "exec", "--lab", lab_name, "pod-0", "--", "sleep", "60"],
        stdout=subprocess.PIPE,
    )
    while True:
        with processes.found(lab_name, "exec") as running:
            if running:
                break
        time.sleep(0.01)
    cluster.down(lab_name)
    assert shell.wait(timeout=60) == -signal.SIGTERM
