"""Inside a virtual machine: carries out what the host asks for, over a port of virtio-serial.

    host → servant    {"run": ["ip", "link"], "seconds": 30}
    servant → host    {"ready": "6.1.0-56-amd64"}                        once
                      {"ended": 0, "output": "…"}                        after each command; 124: it took too long, and where all stood

One JSON document a line.  A command inherits the port (PORT says its number), so that pytest can send its reports while it runs; only
one of the two writes at a time.  When the host hangs up, whoever reads gets the end of the file; then the machine is switched off.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

NAME = "netloom"
PORT = "NETLOOM_VM_PORT"
_PORTS = Path("/sys/class/virtio-ports")
_OUTPUT = 1 << 16
_TIMED_OUT = 124


def main() -> None:
    port = os.open(f"/dev/{_device()}", os.O_RDWR)
    os.set_inheritable(port, True)
    say(port, ready=os.uname().release)
    with open(port, "rb", closefd=False) as lines:
        for line in lines:
            order = json.loads(line)
            status, output = _run(order["run"], order["seconds"], port)
            say(port, ended=status, output=output)


def _device() -> str:
    return next(path.name for path in _PORTS.iterdir() if (path / "name").read_text().strip() == NAME)


def _run(arguments: list[str], seconds: float, port: int) -> tuple[int, str]:
    """A file takes the output: what a command leaves running may hold on to it."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, PORT: str(port)},
            pass_fds=[port],
            start_new_session=True,
        )
        ended = _wait(process.pid, seconds, port)
        if not ended:
            os.write(output.fileno(), _stand().encode())
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait() if ended else _TIMED_OUT
        size = output.seek(0, os.SEEK_END)
        output.seek(max(size - _OUTPUT, 0))
        return status, output.read().decode(errors="replace")


def _wait(pid: int, seconds: float, port: int) -> bool:
    """Whether it ended in time; the machine ends, too, when the host hangs up."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(port, 0)  # POLLHUP comes unasked
        events = dict(poll.poll(seconds * 1000))
        if port in events:
            raise SystemExit
        return pidfd in events
    finally:
        os.close(pidfd)


def _stand() -> str:
    """Where in the kernel everything stands that is not idle: of a command that took too long, this is what was seen of it."""
    stands = list[str]()
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        with suppress(OSError):  # it has ended since
            name, _, rest = (task / "stat").read_text().rpartition(")")
            stack = (task / "stack").read_text()
            if rest.split()[0] != "I":
                stands.append(f"{name}) {rest.split()[0]}\n{stack}")
    return "\n".join(("", *stands))


def say(port: int, **words: object) -> None:
    """One document, however large."""
    left = json.dumps(words).encode() + b"\n"
    while left:
        left = left[os.write(port, left) :]


if __name__ == "__main__":
    sys.exit(main())
