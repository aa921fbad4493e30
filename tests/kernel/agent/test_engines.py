"""What a host allows is found out by trying: here it allows programs, and then it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from netloom.agent import engines
from netloom.dataplane.netlink import Netlink, devices
from netloom.model.desired import Engine

_WITHOUT_BPF = """
import ctypes, platform, struct
number = {"x86_64": 321, "aarch64": 280}[platform.machine()]
filters = ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in filters))
program = struct.pack("@HP", len(filters), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program) == 0
"""
WITHOUT_BPF = (sys.executable, "-c", f"{_WITHOUT_BPF}\nfrom netloom.cli import main; main()", "agent", "--config")
"""An agent whose container may not call bpf(2): seccomp answers EPERM, as container runtimes have it."""


def test_a_host_that_allows_programs_is_found_to(node: int) -> None:
    assert engines.try_ebpf() is None
    assert engines.try_forwarder() is None


@pytest.mark.parametrize("engine", list(Engine), ids=lambda e: e.value)
def test_a_trial_leaves_nothing(node: int, engine: Engine) -> None:
    with Netlink() as kernel:
        before = {device.name for device in devices(kernel)}
        engines.TRIALS[engine]()
        assert {device.name for device in devices(kernel)} == before


def test_one_that_may_not_is_found_not_to_and_says_why() -> None:
    asked = f"{_WITHOUT_BPF}\nfrom netloom.agent import engines\nprint(engines.choose('auto')[1])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert "Engine.FORWARDER" in done.stdout
    assert "no ebpf: Operation not permitted; loading needs CAP_BPF" in done.stdout
