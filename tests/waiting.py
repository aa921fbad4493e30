"""Waiting until something holds.  A busy machine may take its time: a deadline only says when it is hopeless."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 30.0) -> T:
    """Its value, as soon as that is true; AssertionError if it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s; the last value was {value!r}"
        time.sleep(0.02)
    return value


def quick(act: Callable[[], object], seconds: float, tries: int = 5) -> bool:
    """Whether it can be done in that time: a busy machine makes some tries slower, and none faster."""
    for _ in range(tries):
        begun = time.monotonic()
        act()
        if time.monotonic() - begun < seconds:
            return True
    return False


def waited(process: subprocess.Popen[bytes], begun: float) -> float:
    """Seconds that it has waited since then for anything but a processor, once it has ended; it is still to be reaped.  A busy machine
    makes them hardly more."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    ended = time.monotonic()
    with open(f"/proc/{process.pid}/schedstat", encoding="ascii") as file:
        running, runnable, _ = map(int, file.read().split())
    return ended - begun - (running + runnable) / 1e9
