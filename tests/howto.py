"""Pages of docs/howto, as a reader follows them: each machine is a network, mount and UTS namespace with its own /etc, /opt, /run and
/var/lib over those of this one, and the commands are typed into a shell there.

    ```console one                    on the machine `one`: `$ ` is what is typed, the rest is what comes out, line by line
    ```yaml one /etc/some/file        a file that the reader writes there

systemd does not run in a namespace.  In its place stands a `systemctl` that starts what the units say, with what they say for it
(`tests.howto_systemctl`); the real one runs the same units in tests/vm.  `scp` copies from machine to machine.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from netloom.lab.etcd import program

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "howto"

_LAYERED = ("/etc", "/opt", "/var/lib")
_OPENING = re.compile(r"```(\w+) (\w+)(?: (/\S+))?$")
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Step:
    """At `line` of a page: a command and what it shows, or a file."""

    line: int
    machine: str
    typed: str = ""
    shown: str = ""
    file: str = ""


def steps(page: str, chapter: str = "") -> list[Step]:
    """Of one chapter, or of the whole page."""
    found: list[Step] = []
    current, title = None, ""
    for number, line in enumerate((PAGES / page).read_text(encoding="utf-8").splitlines(), 1):
        if current is None:
            title = line.removeprefix("## ") if line.startswith("## ") else title
            opening = _OPENING.match(line)
            if opening and (not chapter or title == chapter):
                current = opening
                if opening[3]:
                    found.append(Step(number, opening[2], file=opening[3]))
        elif line == "```":
            current = None
        elif current[3]:
            last = found.pop()
            found.append(Step(last.line, last.machine, shown=f"{last.shown}{line}\n", file=last.file))
        elif line.startswith("$ "):
            found.append(Step(number, current[2], typed=line[2:]))
        else:
            last = found.pop()
            found.append(Step(last.line, last.machine, last.typed, f"{last.shown}{line}\n"))
    return found


@dataclass(slots=True)
class Machines:
    folder: Path
    holders: dict[str, int] = field(default_factory=dict)
    """Of each machine a process that does nothing but be in its namespaces."""

    def run(self, machine: str, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        pid = self.holders[machine]
        inside = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", f"--net=/proc/{pid}/ns/net", f"--uts=/proc/{pid}/ns/uts"]
        done = subprocess.run(
            [*inside, "bash", "-c", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
            cwd="/",
            env=self._environment(machine),
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, (
            f"{machine}: {command}: exit code {done.returncode}\n{done.stdout}{done.stderr}{self.logs()}"
        )
        return done

    def follow(self, page: Sequence[Step]) -> None:
        for step in page:
            if step.file:
                self.run(step.machine, f"cat >{step.file} <<'END'\n{step.shown}END")
            else:
                came = self.run(step.machine, step.typed).stdout
                assert _plain(came) == _plain(step.shown), (
                    f"line {step.line}: $ {step.typed}\ncame:\n{came}\nshown:\n{step.shown}{self.logs()}"
                )

    def logs(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    def _environment(self, machine: str) -> dict[str, str]:
        path = (
            self.folder / "bin",
            Path(sys.executable).parent,
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        )
        return {
            "PATH": ":".join(map(str, path)),
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
            "HOME": "/root",
            "NETLOOM_HOWTO": f"{self.folder}:{machine}",
            "LC_ALL": "C.UTF-8",
        }


def _plain(text: str) -> list[str]:
    return [re.sub(r", time \d+ms", "", " ".join(line.split())) for line in text.splitlines()]


@contextmanager
def machines(*names: str) -> Iterator[Machines]:
    """On one wire: 192.0.2.1, 192.0.2.2 and so on, each with a way out that leads nowhere.  The wire is a bridge in a namespace of its
    own: an agent would see it."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="nl-howto-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _programs(folder / "bin")
        made = Machines(folder)
        wire = _hold(stack, "wire", "--net")
        _inside(wire, "ip link add wire type bridge && ip link set wire up")
        for number, name in enumerate(names, 1):
            made.holders[name] = _hold(stack, name, "--mount", "--net", "--uts")
            (folder / f"{name}.pid").write_text(str(made.holders[name]), encoding="ascii")
            _furnish(made, name)
            _inside(wire, f"ip link add to-{name} type veth peer name eth0 netns {made.holders[name]}")
            _inside(wire, f"ip link set to-{name} master wire up")
            made.run(name, f"ip link set lo up && ip address add 192.0.2.{number}/24 dev eth0 && ip link set eth0 up")
            made.run(name, "ip route add default via 192.0.2.254")
            stack.callback(made.run, name, "systemctl stop-all", check=False)
        yield made


def _hold(stack: ExitStack, name: str, *kinds: str) -> int:
    """The PID of a process in new namespaces, which ends with the test."""
    rename = f"hostname {name} && " if "--uts" in kinds else ""
    holder = subprocess.Popen(
        ["unshare", *kinds, "sh", "-c", f"{rename}echo up && exec sleep infinity"], stdout=subprocess.PIPE
    )
    stack.callback(_end, holder)
    assert holder.stdout is not None and holder.stdout.readline() == b"up\n"
    return holder.pid


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _inside(pid: int, command: str) -> None:
    subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-c", command], check=True)


def _furnish(made: Machines, name: str) -> None:
    """As apt-get and a runtime have left it: a user `etcd`, folders, and nothing of Netloom."""
    layers = made.folder / f"{name}.layers"
    layers.mkdir()
    made.run(name, f"mount -t tmpfs layers {layers}")
    for number, directory in enumerate(_LAYERED):
        upper, work = f"{layers}/{number}", f"{layers}/{number}.work"
        options = f"lowerdir={directory},upperdir={upper},workdir={work}"
        made.run(name, f"mkdir {upper} {work} && mount -t overlay o -o {options} {directory}")
    made.run(
        name, "mount -t tmpfs run /run && mkdir -p /run/systemd/system /run/netns && install -m 600 /dev/null /run/xtables.lock"
    )
    made.run(
        name, "rm -rf /etc/netloom /etc/default/etcd /etc/cni/net.d/* /var/lib/netloom /var/lib/etcd; mkdir -p /etc/default"
    )
    made.run(name, "grep -q ^etcd: /etc/group || echo etcd:x:997: >>/etc/group")
    made.run(name, "grep -q ^etcd: /etc/passwd || echo etcd:x:997:997::/var/lib/etcd: >>/etc/passwd")
    made.run(name, "install -d -m 700 -o etcd -g etcd /var/lib/etcd")


def _programs(folder: Path) -> None:
    folder.mkdir()
    copy = "for last; do :; done; while [ $# -gt 1 ]; do cp -p /proc/$(cat ${NETLOOM_HOWTO%:*}/${1%%:*}.pid)/root${1#*:} $last; shift; done"
    scripts = {
        "systemctl": f'exec {sys.executable} -m tests.howto_systemctl "$@"',
        "scp": copy,
    }
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "etcd").symlink_to(program())
