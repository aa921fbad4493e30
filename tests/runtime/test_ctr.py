"""`ctr run --cni`: containerd without the CRI, where the command itself asks for the network and gives it back."""

from __future__ import annotations

import time

import pytest

from tests.runtime.containerd import Containerd
from tests.runtime.image import NAME
from tests.runtime.reaching import eventually

SERVING = ("sh", "-c", "exec httpd -f -p 80 -h /www")


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
def test_a_container_has_addresses_while_it_runs_and_nothing_stays(runtime: Containerd, wiring: str) -> None:
    runtime.write_network(runtime.version.conflist(wiring=wiring))
    seen = runtime.ctr("run", "--rm", "--cni", NAME, "one", "ip", "address", "show", "dev", "eth0")
    assert " 10.244." in seen
    assert " fd00:244:" in seen


def test_a_container_in_the_background_is_reached_and_its_network_goes_with_it(runtime: Containerd) -> None:
    """1.6 asks for no DEL then: the agent sees that the sandbox is no more."""
    runtime.ctr("run", "--detach", "--cni", NAME, "two", *SERVING)
    listing = runtime.ctr("task", "exec", "--exec-id", "look", "two", "ip", "address", "show", "dev", "eth0")
    addresses = [word.partition("/")[0] for word in listing.split() if word.startswith(("10.244.", "fd00:244:"))]
    assert len(addresses) == 2
    eventually(runtime.inside.machine.netns, addresses, 80)
    runtime.ctr("task", "kill", "--signal", "SIGKILL", "two")
    remove(runtime, "two")
    runtime.inside.run("sh", "-c", "rm -f /var/lib/cni/results/*-two-*")  # 1.6 leaves them


def remove(runtime: Containerd, container: str) -> None:
    """As soon as its process has ended."""
    deadline = time.monotonic() + 30
    while runtime.attempt_ctr("task", "delete", container).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runtime.ctr("container", "delete", container)
