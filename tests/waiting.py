"""Waiting until something holds.  A busy machine may take its time: a deadline only says when it is hopeless."""

from __future__ import annotations

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
