"""A virtual machine with a stock Debian kernel on this machine's file system: QEMU without KVM, started by virtme-ng.

    with booted() as vm:
        vm.run("ip", "link", "add", "tunnel0", "type", "ipip", "local", "10.0.0.1")
        vm.cut_power()
        vm.boot()                 the disk is as it was, /dev/vda; everything else is as at first

Inside, the file system is this machine's, copied on write into memory (stage.sh); QEMU itself exports it read-only, so nothing that runs
there can harm it.  A socket joins the two (servant.py).

All of it is one process group, killed as such.  Should whoever made it be killed first, the socket closes, and the machine switches
itself off; and `timeout` stands over everything.  What the kernel has to say lies in `console`, and is part of every error.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.vm.parts import Parts, parts, tools
from tests.vm.servant import NAME

CHECKOUT = Path(__file__).parents[2]
LIFETIME = 1800.0
"""Seconds after which a machine is killed, whatever goes on in it."""
PATIENCE = 300.0
"""For a boot, and for a command: emulated, everything takes ten to thirty times as long, and other work may go on beside it."""

_MEMORY, _CPUS, _DISK = "3G", 2, 256 << 20
_CONSOLE_LINES = 60
_KERNEL = (
    "mitigations=off",  # flushes that nobody needs, and emulation makes dear
    "rcupdate.rcu_expedited=1",  # namespaces go away sooner
    *("clocksource=tsc", "tsc=reliable"),  # the other clocks are emulated devices, and every packet asks for the time
    "norandmaps",  # what was translated for one process serves the next
    "apparmor=0",
    "loglevel=4",
)


class Died(Exception):
    """It is gone, or says nothing any more; with the end of its console."""


@dataclass(slots=True)
class Vm:
    folder: Path
    parts: Parts
    path: str
    release: str = ""
    _process: subprocess.Popen[bytes] | None = None
    _connection: socket.socket | None = None
    _received: bytearray = field(default_factory=bytearray)

    def boot(self) -> None:
        """Returns when the servant is there; raises Died."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            with suppress(FileNotFoundError):
                os.unlink(self._socket)
            listener.bind(self._socket)
            listener.listen(1)
            with open(self.console, "wb") as console:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd="/",
                    env={**os.environ, "PATH": self.path, "TMPDIR": str(self.folder)},
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    start_new_session=True,
                )
            listener.settimeout(PATIENCE)
            try:
                self._connection, _ = listener.accept()
            except TimeoutError as e:
                raise self.died("QEMU did not start") from e
        self._received.clear()
        self.release = self.hear(PATIENCE)["ready"]

    def run(self, *arguments: str, seconds: float = PATIENCE) -> str:
        """What a command prints inside; raises AssertionError with it, and with the console's end, when the command fails."""
        self.start(*arguments, seconds=seconds)
        ended = self.hear(seconds + PATIENCE)
        assert ended["ended"] == 0, f"{' '.join(arguments)}: exit code {ended['ended']}\n{ended['output']}\n{self._said_last()}"
        return str(ended["output"])

    def start(self, *arguments: str, seconds: float) -> None:
        """The same, and what comes of it is to be heard."""
        assert self._connection
        self._connection.sendall(json.dumps({"run": arguments, "seconds": seconds}).encode() + b"\n")

    def hear(self, seconds: float) -> Mapping[str, Any]:  # Any: JSON
        """The next document from inside; raises Died when none comes for so long."""
        assert self._connection
        deadline = time.monotonic() + seconds
        while b"\n" not in self._received:
            self._connection.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                received = self._connection.recv(1 << 16)
            except TimeoutError as e:
                raise self.died(f"said nothing for {seconds:.0f} s") from e
            except OSError as e:
                raise self.died(f"has gone: {e.strerror}") from e
            if not received:
                raise self.died("has gone")
            self._received += received
        line, _, rest = self._received.partition(b"\n")
        self._received = rest
        document: Mapping[str, Any] = json.loads(line)
        return document

    def cut_power(self) -> None:
        """From one instruction to the next."""
        if self._connection:
            self._connection.close()
            self._connection = None
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def died(self, how: str) -> Died:
        return Died(f"the virtual machine {how}; {self._said_last()}")

    def _said_last(self) -> str:
        lines = self.console.read_text(errors="replace").splitlines()[-_CONSOLE_LINES:]
        return "\n    ".join(("its console:", *lines))

    @property
    def console(self) -> Path:
        return self.folder / "console"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    def _command(self) -> list[str]:
        venv = Path(sys.executable).parent
        servant = (sys.executable, "-m", "tests.vm.servant")
        variables = {
            "PATH": f"{venv}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"{CHECKOUT / 'src'}:{CHECKOUT}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return [
            *("timeout", "--kill-after=5", f"{LIFETIME:.0f}"),
            *(sys.executable, "-m", "virtme.commands.run", "--mods", "auto", "--kimg", str(self.parts.image)),
            *("--force-9p", "--disable-kvm", "--disable-microvm", "--memory", _MEMORY, "--cpus", str(_CPUS)),
            *("--show-boot-console", *(word for option in _KERNEL for word in ("--kopt", option))),
            "--script-sh",
            shlex.join(
                [
                    *("bash", str(CHECKOUT / "tests/vm/stage.sh"), str(self.parts.modules), str(self.parts.kmod)),
                    *("env", f"--chdir={CHECKOUT}", *(f"{name}={value}" for name, value in variables.items()), *servant),
                ]
            ),
            "--qemu-opts",
            *("-fsdev", "local,id=machine,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=machine,mount_tag=machine"),
            *("-drive", f"if=none,id=disk,format=raw,cache=writeback,file={self.disk}"),
            *("-device", "virtio-blk-pci,drive=disk"),
            *("-chardev", f"socket,id=servant,path={self._socket},server=off"),
            *("-device", "virtio-serial-pci", "-device", f"virtserialport,name={NAME},chardev=servant"),
        ]


@contextmanager
def booted() -> Iterator[Vm]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="nl-vm-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _compile()
        vm = Vm(folder, parts(), f"{tools(folder)}:{os.environ.get('PATH', os.defpath)}")
        with open(vm.disk, "wb") as disk:
            disk.truncate(_DISK)
        stack.callback(vm.cut_power)
        vm.boot()
        yield vm


def _compile() -> None:
    """Here, where it takes a second: inside, nothing is written down."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", CHECKOUT / "src", CHECKOUT / "tests"], check=True)
