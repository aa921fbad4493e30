"""A host of its own for a test: the machine's network namespace, and a mount namespace in which /etc, /opt, /run and /var/lib are
layers over the real ones, so that the real program may be told to install itself, without --root.

There is no systemd in it: /run is empty.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.agent_process import Machine

_LAYERED = ("/etc", "/opt", "/var/lib")
_SEEN = (*_LAYERED, "/run")


@dataclass(frozen=True, slots=True)
class Host:
    machine: Machine
    holder: int
    """A process that sleeps in the mount namespace."""

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", f"--net=/proc/{os.getpid()}/fd/{self.machine.netns}"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def netloom(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        config = ("--config", f"{self.machine.folder}/agent.yaml")
        return self.run(sys.executable, "-m", "netloom", *arguments, *config, check=check)

    def files(self) -> frozenset[str]:
        """Path, mode, owner, size and target of everything that is there."""
        return frozenset(self.run("find", *_SEEN, "-printf", "%p %M %U:%G %l %y\\n").stdout.splitlines())


@contextmanager
def private_host(machine: Machine) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="nl-host-", dir="/tmp") as folder:
        holder = subprocess.Popen(["unshare", "--mount", "sleep", "infinity"])
        try:
            host = Host(machine, holder.pid)
            _wait_for_namespace(holder.pid)
            host.run("mount", "-t", "tmpfs", "layers", folder)
            for number, directory in enumerate(_LAYERED):
                upper, work = f"{folder}/{number}", f"{folder}/{number}.work"
                host.run("mkdir", upper, work)
                host.run(
                    "mount", "-t", "overlay", "o", "-o", f"lowerdir={directory},upperdir={upper},workdir={work}", directory
                )
            host.run("mount", "-t", "tmpfs", "run", "/run")
            host.run(
                "install", "-m", "600", "/dev/null", "/run/xtables.lock"
            )  # iptables' own: it makes that file and leaves it
            yield host
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait()


def _wait_for_namespace(pid: int) -> None:
    own = os.readlink("/proc/self/ns/mnt")
    while os.readlink(f"/proc/{pid}/ns/mnt") == own:
        pass
