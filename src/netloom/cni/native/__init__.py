"""The CNI client as a freestanding executable, one per machine type, and the choice between it and the Python one.

client.c is the source, build.py compiles it, `x86_64/` and `aarch64/` hold what it made (docs/decisions/0005-native-client.md).
"""

from __future__ import annotations

import platform
from pathlib import Path

HERE = Path(__file__).parent
MACHINES = ("x86_64", "aarch64")


def executable(machine: str = "") -> Path:
    """The file to install as the CNI plugin on a host of this type (default: this one)."""
    native = HERE / (machine or platform.machine()) / "netloom-cni"
    return native if native.exists() else HERE.parent / "client.py"
