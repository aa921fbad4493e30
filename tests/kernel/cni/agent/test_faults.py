"""An agent that is away, stands still or is started anew, clients that are killed, and calls at the same time.

Points 16, 48, 58, 74 and 76 of the CNI checklist.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings

from netloom.dataplane import netns
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CLIENTS, NATIVE, Answer, Runtime, finish, run
from tests.pure.cni.calls import hostile_calls
from tests.residue import addresses_in_use, baseline, quiet_residue, settled
from tests.waiting import eventually

DONE = Answer(0, b"")
AWAY = {"ADD": 11, "CHECK": 11, "GC": 11, "STATUS": 50, "DEL": 0}
CALLS = int(os.environ.get("NETLOOM_TEST_CALLS", "500"))
WORKERS = 16
"""Threads, and descriptors of theirs, that an agent may wake beyond those it has had to; pods are many more."""


@pytest.fixture
def sandboxes(machine: Machine) -> Iterator[list[Sandbox]]:
    with ExitStack() as stack:
        yield [stack.enter_context(machine.sandbox()) for _ in range(20)]


def tombstones(machine: Machine) -> list[str]:
    return os.listdir(f"{machine.run_dir}/tombstones")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_58_with_the_agent_away_only_a_del_succeeds_and_is_done_later(
    either: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, number: signal.Signals
) -> None:
    result = either("ADD", sandbox).document
    machine.end(number)
    answers = {command: either(command, other, result=result) for command in AWAY if command != "DEL"}
    assert {command: answer.error for command, answer in answers.items()} == {c: e for c, e in AWAY.items() if e}
    assert [either("DEL", sandbox, result=result) for _ in range(2)] == [DONE, DONE]
    assert len(tombstones(machine)) == 2
    assert run(either.plugin, {"CNI_COMMAND": "VERSION", "NETLOOM_RUN_DIR": either.run_dir}, b"").ok
    machine.start()
    assert tombstones(machine) == []
    assert either("CHECK", sandbox, result=result).error == 3
    assert either("STATUS", sandbox) == DONE


def test_58_a_tombstone_never_overtakes_the_add_that_follows_it(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    assert runtime("ADD", sandbox).ok
    machine.end(signal.SIGKILL)
    assert runtime("DEL", sandbox) == DONE
    machine.start()
    again = runtime("ADD", sandbox)
    assert again.ok and runtime("CHECK", sandbox, result=again.document).ok
    time.sleep(0.1)
    assert runtime("CHECK", sandbox, result=again.document).ok
    assert runtime("DEL", sandbox) == DONE


def test_pods_that_are_there_keep_their_network_while_the_agent_is_away(
    runtime: Runtime, machine: Machine, sandbox: Sandbox
) -> None:
    result = runtime("ADD", sandbox).document
    address = result["ips"][0]["address"].partition("/")[0]
    before = quiet_residue(machine)
    machine.end(signal.SIGKILL)
    assert reaches(machine, address)
    machine.start()
    assert reaches(machine, address)
    assert settled(machine, before) == []
    machine.restart(signal.SIGTERM)
    assert settled(machine, before) == []
    assert runtime("DEL", sandbox) == DONE


def reaches(machine: Machine, address: str) -> bool:
    with netns.entered(machine.netns):
        ping = ["ping", "-n", "-q", "-c", "1", "-W", "10", address]
        return subprocess.run(ping, check=False, capture_output=True).returncode == 0


def test_74_an_agent_that_stands_still_is_down_after_two_seconds_and_drops_what_it_was_asked(
    machine: Machine, sandboxes: list[Sandbox]
) -> None:
    """Each command of each client at the same time, and each has its answer while the agent stands.  What was answered "down" must not
    be done when it goes on."""
    runtimes = [Runtime(machine.run_dir, client) for client in CLIENTS.values()]
    attached = sandboxes[:2]
    for sandbox in attached:
        assert runtimes[0]("ADD", sandbox).ok
    machine.send(signal.SIGSTOP)
    try:
        asked = [
            (command, runtime.begin(command, sandbox if command != "DEL" else gone))
            for runtime, gone, sandbox in zip(runtimes, attached, sandboxes[2:], strict=False)
            for command in ("ADD", "STATUS", "DEL")
        ]
        answers = [(command, finish(process)) for command, process in asked]
    finally:
        machine.send(signal.SIGCONT)
    assert [answer.error for _, answer in answers] == [AWAY[command] for command, _ in answers]
    assert eventually(lambda: tombstones(machine) == [])
    assert eventually(lambda: machine.state().attachments == ())


def test_an_agent_that_is_slow_is_waited_for(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    machine.send(signal.SIGSTOP)
    process = runtime.begin("ADD", sandbox)
    time.sleep(0.5)
    machine.send(signal.SIGCONT)
    assert finish(process).ok
    assert runtime("DEL", sandbox) == DONE


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_an_add_whose_client_was_killed_is_undone_by_the_del(client: str, machine: Machine, sandboxes: list[Sandbox]) -> None:
    """Killed before the agent saw it, and at random moments while it works."""
    runtime = Runtime(machine.run_dir, client)
    machine.send(signal.SIGSTOP)
    processes = [runtime.begin("ADD", sandbox) for sandbox in sandboxes]
    time.sleep(0.1)
    for process in processes[:10]:
        process.kill()
    machine.send(signal.SIGCONT)
    for process in processes[10:]:
        time.sleep(0.001)
        process.kill()
    for process in processes:
        process.communicate(timeout=60)
    assert {runtime("DEL", sandbox) for sandbox in sandboxes} == {DONE}


def test_adds_during_a_restart_succeed_or_say_try_again(runtime: Runtime, machine: Machine, sandboxes: list[Sandbox]) -> None:
    processes = []
    for i, sandbox in enumerate(sandboxes):
        processes.append(runtime.begin("ADD", sandbox))
        if i == len(sandboxes) // 2:
            machine.end(signal.SIGTERM)
    answers = [finish(process) for process in processes]
    machine.start()
    assert {answer.error for answer in answers} <= {0, 11}
    retried = [answer if answer.ok else runtime("ADD", sandbox) for answer, sandbox in zip(answers, sandboxes, strict=True)]
    assert all(answer.ok for answer in retried)
    shown = addresses_in_use(sandbox.netns for sandbox in sandboxes)
    assert len(shown) == len(set(shown)) == 2 * len(sandboxes)
    assert {runtime("DEL", sandbox) for sandbox in sandboxes} == {DONE}


def test_add_and_del_of_one_container_at_the_same_time_end_in_nothing_or_in_a_pod(
    runtime: Runtime, machine: Machine, sandboxes: list[Sandbox]
) -> None:
    for sandbox in sandboxes:
        adding, deleting = runtime.begin("ADD", sandbox), runtime.begin("DEL", sandbox)
        assert finish(deleting) == DONE
        answer = finish(adding)
        if answer.ok:
            checked = runtime("CHECK", sandbox, result=answer.document)
            assert checked.ok or checked.error == 3
        assert runtime("DEL", sandbox) == DONE


def test_descriptors_threads_and_memory_do_not_grow(runtime: Runtime, machine: Machine, sandboxes: list[Sandbox]) -> None:
    def cycle() -> None:
        processes = [runtime.begin("ADD", sandbox) for sandbox in sandboxes]
        assert all(finish(process).ok for process in processes)
        assert {runtime("DEL", sandbox) for sandbox in sandboxes} == {DONE}

    cycle()
    before = usage(machine)
    for _ in range(5):
        cycle()
    assert eventually(lambda: usage(machine) <= before + WORKERS)


def usage(machine: Machine) -> int:
    """Descriptors and threads of the agent."""
    return len(os.listdir(f"/proc/{machine.pid}/fd")) + len(os.listdir(f"/proc/{machine.pid}/task"))


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_whatever_is_sent_has_a_valid_answer_and_the_host_is_unchanged(client: str, machine: Machine, sandbox: Sandbox) -> None:
    """Fewer by the Python client, which takes long to start: the agent cannot tell by whom it is asked."""
    pid, before = machine.pid, baseline(machine)

    @settings(
        max_examples=CALLS if client == NATIVE else CALLS // 5,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(hostile_calls())
    def hostile(call: tuple[dict[str, str], bytes]) -> None:
        environment, stdin = call
        known = {"NETLOOM_RUN_DIR": machine.run_dir, "PATH": os.defpath}
        if environment.get("CNI_NETNS") == "/var/run/netns/cni-1":
            environment = environment | {"CNI_NETNS": sandbox.path}
        answer = run(client, _sendable(environment) | known, stdin)
        if answer.ok:
            assert answer.stdout == b"" or {"cniVersion"} <= answer.document.keys()
        else:
            assert {"cniVersion", "code", "msg"} <= answer.document.keys()
        if environment.get("CNI_COMMAND") == "ADD" and answer.ok:
            assert run(client, _sendable(environment) | known | {"CNI_COMMAND": "DEL"}, stdin).ok

    hostile()
    assert machine.pid == pid
    assert settled(machine, before) == []
    assert Runtime(machine.run_dir, NATIVE)("STATUS", sandbox) == DONE


def _sendable(environment: dict[str, str]) -> dict[str, str]:
    """As much of it as execve(2) takes (128 KiB for one variable)."""
    return {name: value for name, value in environment.items() if len(value) < 100_000}
