"""Killed at any moment, runtime and agent, in any order: running pods do not notice, and what was half made goes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from tests.runtime.containerd import Containerd
from tests.runtime.cri import Pod, Sandbox
from tests.runtime.reaching import Reaching

RUNTIME, AGENT = "containerd", "agent"
ORDERS = [(RUNTIME,), (AGENT,), (RUNTIME, AGENT), (AGENT, RUNTIME)]
SERVING = ("sh", "-c", "exec httpd -f -p 80 -h /www")


def kill(runtime: Containerd, what: str) -> None:
    if what == RUNTIME:
        runtime.end(signal.SIGKILL)
    else:
        runtime.inside.machine.end(signal.SIGKILL)


def start(runtime: Containerd, what: str) -> None:
    if what == RUNTIME:
        runtime.start()
    else:
        runtime.inside.machine.start()


@pytest.mark.parametrize(
    ("killed", "restarted"), [(killed, again) for killed in ORDERS for again in sorted({killed, killed[::-1]})], ids="-".join
)
def test_pods_go_on_while_it_is_dead_and_go_away_when_it_is_back(
    runtime: Containerd, killed: tuple[str, ...], restarted: tuple[str, ...]
) -> None:
    pods = [runtime.cri.run(Pod(name)) for name in ("one", "two")]
    addresses = [pod.addresses for pod in pods]
    pods[1].start("serving", *SERVING)
    with Reaching(runtime, pods[0], addresses[1]) as reaching:
        for what in killed:
            kill(runtime, what)
            reaching.on(0.1)
        for what in restarted:
            start(runtime, what)
            reaching.on(0.1)
    assert reaching.lost == []
    found = [Sandbox(runtime.cri, pod.pod, pod.id) for pod in pods]
    assert [(pod.ready, pod.addresses) for pod in found] == [(True, a) for a in addresses]
    third = runtime.cri.run(Pod("three"))
    assert not set(third.addresses) & {a for both in addresses for a in both}
    for pod in (*found, third):
        pod.remove()


@pytest.mark.parametrize("killed", ORDERS, ids="-".join)
def test_pods_are_removed_after_both_came_back(runtime: Containerd, killed: tuple[str, ...]) -> None:
    """DEL while the agent is away is worked off when it is back."""
    pods = [runtime.cri.run(Pod(name)) for name in ("one", "two")]
    for what in killed:
        kill(runtime, what)
    if RUNTIME in killed:
        start(runtime, RUNTIME)
    for pod in pods:
        runtime.cri.remove(pod.id)
    assert runtime.left() == []
    if AGENT in killed:
        start(runtime, AGENT)


@contextmanager
def being_made(runtime: Containerd, pod: Pod) -> Iterator[list[object]]:
    """RunPodSandbox under way; the list gets the sandbox, or the error that it ended with."""
    outcome: list[object] = []
    cri = runtime.cri

    def make() -> None:
        try:
            outcome.append(cri.run(pod))
        except (grpc.RpcError, ValueError) as e:  # ValueError: the channel is closed with the runtime
            outcome.append(e)

    thread = threading.Thread(target=make)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(60)
        assert not thread.is_alive()


def recovers(runtime: Containerd, pod: Pod) -> None:
    """What kubelet does: it takes away what it finds, and makes the pod once more."""
    machine = runtime.inside.machine
    if not runtime.answers():
        runtime.start()
    if machine.pid is None:
        machine.start()
    runtime.wait_for_network()
    runtime.remove_all()
    again = runtime.cri.run(Pod(pod.name, attempt=1))
    assert len(again.addresses) == 2
    again.remove()
    runtime.forget_unused()


@pytest.mark.parametrize("killed", ORDERS, ids="-".join)
@pytest.mark.parametrize("after", [0.01, 0.03, 0.05, 0.07, 0.1, 0.15])
def test_a_kill_while_a_pod_is_made_leaves_nothing(runtime: Containerd, killed: tuple[str, ...], after: float) -> None:
    with being_made(runtime, Pod("web")):
        time.sleep(after)
        for what in killed:
            kill(runtime, what)
    recovers(runtime, Pod("web"))


@pytest.mark.parametrize("killed", ORDERS, ids="-".join)
def test_a_kill_while_the_agent_is_being_asked_leaves_nothing(runtime: Containerd, killed: tuple[str, ...]) -> None:
    machine = runtime.inside.machine
    machine.send(signal.SIGSTOP)
    try:
        with being_made(runtime, Pod("web")):
            wait_for_a_caller(runtime)
            for what in killed:
                kill(runtime, what)
            machine.send(signal.SIGCONT)
    finally:
        machine.send(signal.SIGCONT)
    recovers(runtime, Pod("web"))


def wait_for_a_caller(runtime: Containerd) -> None:
    """Until a plugin of ours runs in the enclosure."""
    deadline = time.monotonic() + 60
    while "/opt/cni/bin/netloom" not in runtime.inside.run("ps", "-eo", "args"):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("killed", ORDERS, ids="-".join)
@pytest.mark.parametrize("after", [0.01, 0.05, 0.1])
def test_a_kill_while_a_pod_is_removed_leaves_nothing(runtime: Containerd, killed: tuple[str, ...], after: float) -> None:
    pod = runtime.cri.run(Pod("web"))
    pod.start("main")
    cri = runtime.cri

    def remove() -> None:
        try:
            cri.remove(pod.id)
        except (grpc.RpcError, ValueError):
            return  # it was killed meanwhile: kubelet asks again

    thread = threading.Thread(target=remove)
    thread.start()
    time.sleep(after)
    for what in killed:
        kill(runtime, what)
    thread.join(60)
    recovers(runtime, Pod("web"))


def test_a_pod_fails_cleanly_while_the_agent_is_down_and_works_when_it_is_back(runtime: Containerd) -> None:
    machine = runtime.inside.machine
    machine.end(signal.SIGKILL)
    with pytest.raises(grpc.RpcError, match="agent of this node does not answer"):
        runtime.cri.run(Pod("web"))
    assert runtime.left() == []
    assert runtime.cri.sandboxes() == []
    machine.start()
    runtime.wait_for_network()
    pod = runtime.cri.run(Pod("web", attempt=1))
    assert len(pod.addresses) == 2
    pod.remove()


def test_a_newer_runtime_says_that_its_network_is_not_ready_while_the_agent_is_down(runtime: Containerd) -> None:
    """By STATUS, which came with version 1.1.0; an older one does not ask."""
    runtime.inside.machine.end(signal.SIGKILL)
    if runtime.version.spec < "1.1.0":
        assert runtime.wait_for_network(True) == ""
    else:
        assert "agent of this node does not answer" in runtime.wait_for_network(False)
    runtime.inside.machine.start()
    runtime.wait_for_network(True)
