"""What the kernel ring says of eBPF holds on a kernel that has no TCX, too: programs are attached by clsact there."""

from __future__ import annotations

import sys

from tests.vm.machine import Vm

RINGS = ("tests/kernel/bpf",)


def test_the_engine_works_by_clsact(vm: Vm) -> None:
    output = vm.run(sys.executable, "-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider", *RINGS, seconds=300)
    assert "passed" in output
