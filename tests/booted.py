"""A machine that systemd runs: the real one as PID 1 of namespaces of every kind, with a cgroup of its own.  It boots in a second.

    with booted("a") as machine:
        machine.run("netloom system install")
        machine.run("systemctl is-active netloom-agent")

/etc, /opt, /usr and /var are layers over this machine's, so what is installed is gone with it; /run is its own, and so is /sys, read-only as in
containers (there is no udev).  Of systemd's own services only the journal, D-Bus and those that a test starts run: all others would look
after the hardware of the machine that this one is made of.  What lies unpacked in `packages` is there as if it were installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from netloom.lab.packages import unpacked
from tests.waiting import eventually

ROOT = Path(__file__).parents[1]
_PATIENCE = 120.0
_KINDS = ("mnt", "net", "uts", "ipc", "cgroup", "pid")
_STAGE = r"""
set -e
folder=$2; layers=$3
mount --make-rprivate /
mkdir "$folder/layers"; mount -t tmpfs layers "$folder/layers"
for name in etc opt usr var; do
    mkdir "$folder/layers/$name" "$folder/layers/$name.work"
    lower=/$name
    [ "$name" != usr ] || [ -z "$layers" ] || lower=$layers:/usr
    mount -t overlay layers -o "lowerdir=$lower,upperdir=$folder/layers/$name,workdir=$folder/layers/$name.work" /$name
done
for unit in ${layers:+"${layers%/usr}"/lib/systemd/system/*}; do [ ! -f "$unit" ] || cp "$unit" /usr/lib/systemd/system/; done
mount -t proc proc /proc
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs run /run
mkdir -p /run/lock; echo "$1" >/etc/hostname; hostname "$1"
rm -rf /etc/systemd/system/*.wants /etc/systemd/system/*.requires /etc/netloom /etc/cni/net.d /var/lib/netloom
mkdir -p /etc/systemd/system-generators
for file in /usr/lib/systemd/system/*.target.wants/*; do
    case ${file##*/} in KEPT) ;; *) ln -sf /dev/null "/etc/systemd/system/${file##*/}" ;; esac
done
for file in /usr/lib/systemd/system-generators/*; do ln -sf /dev/null "/etc/systemd/system-generators/${file##*/}"; done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >/etc/systemd/system/small.target
ln -sf small.target /etc/systemd/system/default.target
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\nDefaultEnvironment=PYTHONPATH=%s\n' "$PYTHONPATH" >/etc/systemd/system.conf.d/test.conf
exec env -i "PATH=$PATH" container=netloom-test /lib/systemd/systemd --system --unit=small.target --show-status=no --log-target=journal
""".replace("KEPT", "|".join(f"{name}*" for name in ("systemd-journald", "dbus.s")))


@dataclass(frozen=True, slots=True)
class Booted:
    pid: int
    """Of its PID 1, as this machine sees it."""

    def run(self, command: str, *, check: bool = True) -> str:
        """What a command prints, typed into a shell there."""
        inside = ["nsenter", *(f"--{_option(kind)}=/proc/{self.pid}/ns/{kind}" for kind in _KINDS), "--"]
        environment = {
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        done = subprocess.run(
            [*inside, "sh", "-c", command],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
        )
        return done.stdout.strip()

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        lines = self.run(f"systemctl show {unit} --property={','.join(properties)}").splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}

    def journal(self) -> str:
        return self.run("journalctl --no-pager --lines 60 --output short-monotonic", check=False) if self.pid else ""


def _option(kind: str) -> str:
    return {"mnt": "mount"}.get(kind, kind)


@contextmanager
def booted(name: str, packages: Sequence[str] = ()) -> Iterator[Booted]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="nl-booted-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cgroup = _cgroup(folder.name)
        stack.callback(_remove, cgroup)
        log = stack.enter_context(open(folder / "console", "wb"))
        stage = ["sh", "-c", _STAGE, "sh", name, str(folder), f"{unpacked(*packages)}/usr" if packages else ""]
        process = subprocess.Popen(
            ["unshare", *("--pid", "--fork", "--kill-child", "--mount", "--net", "--uts", "--ipc", "--cgroup"), *stage],
            preexec_fn=lambda: (cgroup / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        stack.callback(_end, process)
        machine = Booted(eventually(lambda: _child(process, folder)))
        eventually(lambda: machine.run("systemctl is-system-running", check=False) in ("running", "degraded"), seconds=60)
        assert machine.run("systemctl --failed --no-legend") == ""
        yield machine


def _cgroup(name: str) -> Path:
    """In the one hierarchy of version 2, wherever it is mounted."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="ascii").splitlines()]
    place = Path(next(where for _, where, kind, *_ in mounts if kind == "cgroup2"), name)
    place.mkdir()
    return place


def _child(process: subprocess.Popen[bytes], folder: Path) -> int:
    """PID 1 as soon as it is systemd."""
    assert process.poll() is None, (folder / "console").read_text(errors="replace")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
    with suppress(OSError):
        if children and os.path.basename(os.readlink(f"/proc/{children[0]}/exe")) == "systemd":
            return int(children[0])
    return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """With PID 1 all that is in its namespace goes."""
    process.send_signal(signal.SIGKILL)
    process.wait()


def _remove(cgroup: Path) -> None:
    deadline = time.monotonic() + 20
    while cgroup.exists():
        for path, _, _ in os.walk(cgroup, topdown=False):
            with suppress(OSError):
                os.rmdir(path)
        if time.monotonic() > deadline:
            raise AssertionError(f"{cgroup} is still in use")
        time.sleep(0.02)
