"""Scopes: a process of ours that outlives the agent gets a cgroup of its own, where systemd runs the agent.

    systemctl status 'netloom-forwarder-*'

It stays the agent's child, with the rights that the agent's unit leaves; what it gets is a life, a memory account and a name of its own:
it is no left-over of a service that was stopped, and when it is out of memory the agent is not.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence

_BOOTED = "/run/systemd/system"  # sd_booted(3)
_OF_A_SERVICE = "INVOCATION_ID"  # systemd.exec(5): whom systemd has started


def scoped(name: str, command: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command, in a scope of that name where there can be one.  systemd-run(1) becomes the command itself: the PID is the same."""
    program = shutil.which("systemd-run")
    if program is None or _OF_A_SERVICE not in environment or not os.path.isdir(_BOOTED):
        return list(command)
    unit = f"--unit={name}-{time.monotonic_ns():x}"
    return [program, "--quiet", "--scope", "--collect", unit, "--description=Netloom's forwarder", "--", *command]
