"""What a container runtime may do as it likes without the host noticing: namespaces for everything that it touches.

    with enclosure(machine) as inside:
        process = inside.start(["containerd", ...], environment, log)
        os.kill(process.pid, signal.SIGKILL)             the program's own PID
        inside.path("/var/lib/cni/results")              a file in there, seen from here

In there are the machine's network namespace, and namespaces of the enclosure's own for mounts, processes, cgroups, host name and
IPC.  /run and /dev/shm are empty; /etc, /opt and /var are the host's with a layer over it that takes what is written; /run/netloom is the
machine's.  The cgroups that a runtime makes lie below one of ours.  The first process holds it all: with it, the kernel ends
whatever runs in there, however many times it has forked and whatever it thinks of signals.  That one ends with this process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from netloom.lab import daemons, processes
from tests.agent_process import Machine

_JOINING = [sys.executable, "-IS", str(Path(__file__).with_name("joining.py"))]
_ROLE = "enclosure"
_GRACE = 30.0


@dataclass(frozen=True)
class Hierarchy:
    """One of cgroups, where the host has it mounted.  `kind`: cgroup or cgroup2; `options`: its controllers."""

    mount: str
    kind: str
    options: str


@dataclass(frozen=True)
class Enclosure:
    machine: Machine
    pid: int
    cgroups: tuple[str, ...]

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self.pid}/root{path}")

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Runs in there what is run out here."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", *arguments]
        return [*_JOINING, *self.cgroups, "--", *enter]

    def run(self, *arguments: str, environment: Mapping[str, str] = os.environ, timeout: float = 60) -> str:
        """What it prints; AssertionError with what it complained of where it fails."""
        done = self.attempt(*arguments, environment=environment, timeout=timeout)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def attempt(
        self, *arguments: str, environment: Mapping[str, str] = os.environ, timeout: float = 60, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command, pipe = self.command(arguments), subprocess.PIPE
        return subprocess.run(
            command, input=stdin, stdout=pipe, stderr=pipe, env=dict(environment), text=True, timeout=timeout, check=False
        )

    def end_all(self) -> None:
        """Every process in there but the first, at once."""
        self.run("kill", "-KILL", "--", "-1")  # kill(2): all that the caller can see, and neither itself nor the first
        deadline = time.monotonic() + _GRACE
        while len(self.run("ps", "-e", "-o", "pid=").split()) > 2:  # the first, and ps
            assert time.monotonic() < deadline

    def thaw(self) -> None:
        """runc freezes a container's cgroup while it sets limits; killed then, it leaves processes that not even SIGKILL ends."""
        _thaw([folder.removesuffix("/members") for folder in self.cgroups])

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: str) -> Program:
        with open(log, "ab") as file:
            outer = subprocess.Popen(
                self.command(arguments),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        return Program(outer, log)


@dataclass(frozen=True)
class Program:
    """One that was started in an enclosure.  `outer` waits for it and ends as it does."""

    outer: subprocess.Popen[bytes]
    log: str

    @property
    def pid(self) -> int:
        """As the host counts."""
        deadline = time.monotonic() + 30
        while not (children := Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()):
            assert self.outer.poll() is None and time.monotonic() < deadline, Path(self.log).read_text()
            time.sleep(0.005)
        return int(children[0])

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.outer.poll() is None:
            os.kill(self.pid, number)
            self.outer.wait(_GRACE)


@contextmanager
def enclosure(machine: Machine) -> Iterator[Enclosure]:
    lab, hierarchies = machine.lab, _hierarchies()
    folders = [f"{h.mount}/{lab}" for h in hierarchies]
    try:
        for folder in folders:
            _make_cgroup(folder)
        wanted = {"runDir": machine.run_dir, "hierarchies": {h.mount: (h.kind, h.options) for h in hierarchies}}
        Path(machine.folder, "enclosure.json").write_text(json.dumps(wanted))
        daemons.start(lab, [_first(machine, folders)])
        with processes.found(lab, _ROLE) as [outer]:
            pid = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        yield Enclosure(machine, pid, tuple(f"{folder}/members" for folder in folders))
    finally:
        _thaw(folders)
        processes.end(lab, _GRACE, _ROLE, first=signal.SIGKILL)
        for folder in folders:
            _remove_cgroup(folder)
        for place in ("upper", "work"):
            shutil.rmtree(f"{machine.folder}/{place}", ignore_errors=True)


def _first(machine: Machine, folders: list[str]) -> daemons.Daemon:
    namespaces = ["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child=KILL", "--mount-proc"]
    unshare = ["unshare", *namespaces, "--propagation=private", *_JOINING, "inside", machine.folder]
    return daemons.Daemon(
        role=_ROLE,
        place="",
        arguments=[*_JOINING, *folders, "--", "setpriv", "--pdeathsig=KILL", *unshare],
        folder=machine.folder,
        log=f"{machine.folder}/enclosure.log",
        namespace=f"/proc/self/fd/{machine.netns}",
    )


def _hierarchies() -> list[Hierarchy]:
    """Those that a runtime gets.  Where each controller has its own, one in which this process is confined is left out: its
    limit goes on holding for all that is started here."""
    confined = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place, _, rest = line.partition(" - ")
        kind, _, options = rest.split()
        if kind in ("cgroup", "cgroup2"):
            controllers = ",".join(o for o in options.split(",") if kind == "cgroup" and o not in ("rw", "ro", "xattr"))
            found.append(Hierarchy(place.split()[4], kind, controllers))
    return found if len(found) == 1 else [h for h in found if confined.get(h.options) == "/"]


def _make_cgroup(folder: str) -> None:
    """And a part of it for those who are inside: a group with processes may have no groups with limits below it."""
    for path in (folder, f"{folder}/members"):
        os.mkdir(path)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if os.path.exists(f"{path}/{name}"):
                Path(path, name).write_text(Path(path).parent.joinpath(name).read_text())


def _thaw(folders: Sequence[str]) -> None:
    for folder in folders:
        for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            for file in Path(folder).rglob(name):
                with suppress(OSError):  # the hierarchy's own has no state to set, and a group may just have gone
                    file.write_text(value)


def _remove_cgroup(folder: str) -> None:
    """Deepest first; a process that is ending keeps its own for a moment."""
    deadline = time.monotonic() + _GRACE
    while os.path.isdir(folder):
        _thaw([folder])
        for place, _, _ in os.walk(folder, topdown=False):
            try:
                os.rmdir(place)
            except OSError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.01)
