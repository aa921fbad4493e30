"""A host of its own for a test: the machine's network namespace, and a mount namespace in which /etc, /opt, /run and /var/lib are
layers over the real ones, so that the real program may be told to install itself, without --root.

There is no systemd in it: /run is empty.  What the real host does to its files meanwhile (an apt-get, a timer) shows through the layers, and
is nothing that the program did: `files` compares what lies in the layers with what they hide.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.agent_process import Machine

_LAYERED = ("/etc", "/opt", "/var/lib")


@dataclass(frozen=True, slots=True)
class Host:
    machine: Machine
    holder: int
    """A process that sleeps in the mount namespace."""
    layers: str
    """Where they lie there, by number."""

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        inside = ["nsenter", f"--mount=/proc/{self.holder}/ns/mnt", f"--net=/proc/{os.getpid()}/fd/{self.machine.netns}"]
        done = subprocess.run([*inside, *command], capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def netloom(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        config = ("--config", f"{self.machine.folder}/agent.yaml")
        return self.run(sys.executable, "-m", "netloom", *arguments, *config, check=check)

    def files(self) -> frozenset[str]:
        """Path, mode, owner and target of everything that is there and not on the real host, or not so; and what is not there any more."""
        inside = f"/proc/{self.holder}/root"
        found = {f"/run{name} {_described(path)}" for name, path in _below(f"{inside}/run")}
        for number, directory in enumerate(_LAYERED):
            for name, path in _below(f"{inside}{self.layers}/{number}"):
                hidden = directory + name
                if (words := _described(path)) != _described(hidden) or (os.path.isdir(hidden) and _hides_all(path)):
                    found.add(f"{hidden} {words}")
        return frozenset(found)


def _below(top: str) -> Iterator[tuple[str, str]]:
    """Each path, from there and whole."""
    for folder, directories, files in os.walk(top):
        for name in (*directories, *files):
            yield f"{folder}/{name}".removeprefix(top), f"{folder}/{name}"


def _described(path: str) -> str:
    """Empty: nothing is there, and a layer says so with a device 0."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        return ""
    target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
    return f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid} {target}"


def _hides_all(path: str) -> bool:
    """Whether it is a directory in the place of another, with nothing of that one's."""
    return os.path.isdir(path) and "trusted.overlay.opaque" in os.listxattr(path)


@contextmanager
def private_host(machine: Machine) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="nl-host-", dir="/tmp") as folder:
        holder = subprocess.Popen(["unshare", "--mount", "sleep", "infinity"])
        try:
            host = Host(machine, holder.pid, folder)
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
