"""The kernel is another one than the machine's, and has what that one lacks."""

from __future__ import annotations

import os
import subprocess


def test_it_is_debians_and_loads_its_modules_by_itself() -> None:
    assert "-amd64" in os.uname().release
    subprocess.run(["ip", "link", "add", "probe0", "type", "dummy"], check=True)
    subprocess.run(["ip", "link", "delete", "probe0"], check=True)
