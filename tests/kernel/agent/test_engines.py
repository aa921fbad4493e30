"""What a host allows is found out by trying: here it allows programs, and then it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from netloom.agent import engines
from netloom.dataplane.netlink import Netlink, devices
from netloom.model.desired import Engine

_WITHOUT = """
import ctypes, struct
from netloom.agent import engines
libc = ctypes.CDLL(None, use_errno=True)
[own] = [int(line.split()[1], 16) for line in open("/proc/self/status") if line.startswith("CapPrm")]
effective = own & ~(1 << 12) & ~(1 << 21) & ~(1 << 39)  # CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF
low, high = effective & 0xffffffff, effective >> 32
assert libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", low, low, 0, high, high, 0)) == 0
print(engines.try_ebpf())
"""


def test_a_host_that_allows_programs_is_found_to(node: int) -> None:
    assert engines.try_ebpf() is None
    assert engines.try_forwarder() is None


@pytest.mark.parametrize("engine", list(Engine), ids=lambda e: e.value)
def test_a_trial_leaves_nothing(node: int, engine: Engine) -> None:
    with Netlink() as kernel:
        before = {device.name for device in devices(kernel)}
        engines.TRIALS[engine]()
        assert {device.name for device in devices(kernel)} == before


def test_one_without_the_privilege_is_found_not_to_and_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=True)
    assert "CAP_BPF" in done.stdout
