"""What the kernel ring says of eBPF holds on a kernel that has no TCX, too: programs are attached by clsact there."""

from __future__ import annotations

import sys

from tests.vm.machine import Vm

RINGS = ("tests/kernel/bpf",)


def test_the_engine_works_by_clsact(vm: Vm) -> None:
    vm.run(sys.executable, "-m", "pytest", "-m", "not long", "-p", "no:cacheprovider", *RINGS, seconds=300)
