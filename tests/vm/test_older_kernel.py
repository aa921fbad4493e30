"""What the kernel ring says holds on an older kernel, too: of eBPF without TCX, where programs are attached by clsact, and of a link that is in
service only when a worker has been at it."""

from __future__ import annotations

import sys

from tests.vm.machine import Vm

RINGS = ("tests/kernel/bpf", "tests/kernel/dataplane/netlink/test_links.py")


def test_the_engine_works_by_clsact_and_first_packets_arrive(vm: Vm) -> None:
    vm.run(sys.executable, "-m", "pytest", "-m", "not long", "-p", "no:cacheprovider", *RINGS, seconds=300)
