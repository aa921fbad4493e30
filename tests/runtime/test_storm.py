"""Many pods at once: none fails, none is like another, and none leaves anything."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.runtime.containerd import Containerd
from tests.runtime.cri import Pod, Sandbox

AT_ONCE = 20


@pytest.mark.parametrize("pods", [20, pytest.param(200, marks=pytest.mark.long)])
def test_none_fails_and_none_leaks(runtime: Containerd, pods: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = list(pool.map(lambda n: runtime.cri.run(Pod(f"storm-{n}")), range(pods)))
        addresses = [address for found in pool.map(told, running) for address in found]
        assert len(set(addresses)) == len(addresses) == 2 * pods
        list(pool.map(Sandbox.remove, running))


def told(pod: Sandbox) -> list[str]:
    return pod.addresses
