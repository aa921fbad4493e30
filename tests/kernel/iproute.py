"""The other implementation: iproute2, to mutate tables behind our back and to look with other eyes."""

from __future__ import annotations

import json
import subprocess
from typing import Any


def run(*arguments: str) -> str:
    """An argument list in one string where no argument has a space."""
    command = arguments[0].split() if len(arguments) == 1 else list(arguments)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def shown(command: str) -> list[dict[str, Any]]:
    """Output of `ip -j …` or `bridge -j …`."""
    tool, rest = command.split(maxsplit=1)
    return list(json.loads(run(f"{tool} -j {rest}") or "[]"))
