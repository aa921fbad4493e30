"""`systemctl` for tests.howto: starts and ends what the units say, with their environment; ready is who says so (sd_notify(3)).

Of a unit it knows ExecStart, Environment, EnvironmentFile and Type=notify, and neither users nor rights: what those do is shown where
systemd itself runs.  A path unit is as good as active.  Units are /etc/systemd/system's, and etcd's is the one of Debian's package.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from netloom.lab.etcd import PACKAGES
from netloom.lab.packages import unpacked

_PATIENCE = 60.0
_FOLDER, _, _MACHINE = os.environ["NETLOOM_HOWTO"].partition(":")


def main(arguments: Sequence[str]) -> int:
    verb, *rest = arguments
    units = [name if "." in name else f"{name}.service" for name in rest if not name.startswith("-")]
    if verb == "is-active":
        return 0 if all(_pid(unit) for unit in units) else 3
    if verb == "stop-all":
        units = [
            path.name.removeprefix(f"{_MACHINE}-").removesuffix(".pid") for path in Path(_FOLDER).glob(f"{_MACHINE}-*.pid")
        ]
    for unit in units:
        if verb in ("stop", "stop-all", "disable", "restart"):
            _stop(unit)
        if verb in ("start", "restart", "enable") and not unit.endswith(".path") and not _pid(unit):
            _start(unit)
    return 0


def _file(unit: str) -> Path:
    return Path(f"{_FOLDER}/{_MACHINE}-{unit}.pid")


def _pid(unit: str) -> int:
    with suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(_file(unit).read_text(encoding="ascii"))
        os.kill(pid, 0)
        if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z":
            return pid
    return 0


def _stop(unit: str) -> None:
    pid = _pid(unit)
    if pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while _pid(unit):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    with suppress(FileNotFoundError):
        _file(unit).unlink()


def _start(unit: str) -> None:
    path = Path(f"/etc/systemd/system/{unit}")
    if not path.exists():
        path = unpacked(*PACKAGES) / "lib/systemd/system" / unit
    settings = [line.partition("=")[::2] for line in path.read_text(encoding="utf-8").splitlines() if "=" in line]
    said = dict(settings)
    environment = dict(os.environ)
    for key, value in settings:
        if key == "Environment":
            for word in shlex.split(value.replace("%H", socket.gethostname())):
                environment.update([word.partition("=")[::2]])
        elif key == "EnvironmentFile":
            file = Path(value.lstrip("-").replace("%p", unit.partition(".")[0]))
            lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
            environment.update(line.partition("=")[::2] for line in lines if "=" in line and not line.startswith("#"))
    words = [os.path.expandvars(word) if word != "$DAEMON_ARGS" else "" for word in said["ExecStart"].split()]
    program, *rest = [word for word in words if word]
    if not os.path.exists(program):
        program = shutil.which(os.path.basename(program)) or program
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified, open(f"{_FOLDER}/{_MACHINE}-{unit}.log", "ab") as log:
        notified.bind(f"{_FOLDER}/{_MACHINE}-{unit}.notify")
        try:
            environment["NOTIFY_SOCKET"] = f"{_FOLDER}/{_MACHINE}-{unit}.notify"
            process = subprocess.Popen(
                [program, *rest], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            _file(unit).write_text(str(process.pid), encoding="ascii")
            notified.settimeout(0.1)
            deadline = time.monotonic() + _PATIENCE
            while said.get("Type") == "notify":
                with suppress(TimeoutError):
                    if b"READY=1" in notified.recv(4096).splitlines():
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"Job for {unit} failed")
        finally:
            os.unlink(f"{_FOLDER}/{_MACHINE}-{unit}.notify")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
