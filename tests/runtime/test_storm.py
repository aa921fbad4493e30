"""Many pods at once: none fails, none is like another, and none leaves anything; not even if all is killed in the midst."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.runtime.containerd import Containerd
from tests.runtime.cri import Cri, Pod, Sandbox

AT_ONCE = 20


@pytest.mark.parametrize("pods", [20, pytest.param(200, marks=pytest.mark.long)])
def test_none_fails_and_none_leaks(runtime: Containerd, pods: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = list(pool.map(lambda n: runtime.cri.run(Pod(f"storm-{n}")), range(pods)))
        addresses = [address for found in pool.map(told, running) for address in found]
        assert len(set(addresses)) == len(addresses) == 2 * pods
        list(pool.map(Sandbox.remove, running))


@pytest.mark.parametrize("killed", [("agent",), ("containerd",), ("agent", "containerd")], ids="-".join)
def test_what_is_killed_in_the_midst_leaves_nothing_and_the_next_try_succeeds(
    runtime: Containerd, killed: tuple[str, ...]
) -> None:
    machine, cri, pods = runtime.inside.machine, runtime.cri, [Pod(f"storm-{n}") for n in range(3 * AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        trying = [pool.submit(attempt, cri, pod) for pod in pods]
        wait_for_pods(runtime)
        if "agent" in killed:
            machine.end(signal.SIGKILL)
        if "containerd" in killed:
            runtime.end(signal.SIGKILL)
        assert not all(one.result() for one in trying)  # else it was not in the midst
    if "agent" in killed:
        machine.start()
    if "containerd" in killed:
        runtime.start()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(runtime.cri.remove, runtime.cri.sandboxes()))
        again = list(pool.map(lambda pod: runtime.cri.run(Pod(pod.name, attempt=1)), pods[:AT_ONCE]))
        assert len({address for found in pool.map(told, again) for address in found}) == 2 * AT_ONCE
        list(pool.map(Sandbox.remove, again))
    runtime.forget_unused()


def attempt(cri: Cri, pod: Pod) -> bool:
    try:
        cri.run(pod)
    except (grpc.RpcError, ValueError):  # ValueError: the channel has been closed
        return False
    return True


def wait_for_pods(runtime: Containerd) -> None:
    """Until the first have got their network."""
    deadline = time.monotonic() + 60
    while not any("/pods-" in line for line in runtime.left()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def told(pod: Sandbox) -> list[str]:
    return pod.addresses
