"""The real firewalld, unpacked, with a message bus of its own, in the calling thread's network namespace.

with firewalld.running(root, folder) as daemon:        # root: unpacked(), called where there are packages to be had
    daemon.command("--reload")
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import daemons
from tests.waiting import eventually

PACKAGES = (
    "firewalld",
    "python3-firewall",
    "python3-nftables",
    "python3-dbus",
    "python3-gi",
    "python3-cap-ng",
    "gir1.2-glib-2.0",
    "libgirepository-1.0-1",
    "libglib2.0-0",
)
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>"""


class Firewalld:
    """`firewall-cmd` of the unpacked packages, and what it and the daemon need to find each other."""

    def __init__(self, root: Path, folder: Path) -> None:
        libraries = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
        self.root, self.folder = root, folder
        self.environment = os.environ | {
            "PYTHONPATH": str(root / "usr/lib/python3/dist-packages"),
            "GI_TYPELIB_PATH": str(libraries / "girepository-1.0"),
            "LD_LIBRARY_PATH": str(libraries),
            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={folder}/bus",
        }

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = ["/usr/bin/python3", str(self.root / "usr/bin/firewall-cmd"), *words]
        return subprocess.run(program, env=self.environment, capture_output=True, text=True, check=False)

    def start(self) -> Iterator[subprocess.Popen[bytes]]:
        """The bus, then the daemon, as soon as each answers."""
        shutil.copytree(self.root / "etc/firewalld", self.folder / "etc")
        (self.folder / "bus.conf").write_text(BUS.format(path=self.folder / "bus"))
        yield self._popen("dbus-daemon", "--nofork", "--nopidfile", f"--config-file={self.folder}/bus.conf")
        eventually(lambda: (self.folder / "bus").exists())
        daemon = ["/usr/bin/python3", str(self.root / "usr/sbin/firewalld"), "--nofork", "--nopid", "--log-target", "file"]
        daemon += ["--log-file", str(self.folder / "log"), "--system-config", str(self.folder / "etc")]
        yield self._popen(*daemon, "--default-config", str(self.root / "usr/lib/firewalld"))
        eventually(lambda: self.command("--state").returncode == 0)

    def _popen(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def unpacked() -> Path:
    return daemons.unpacked(*PACKAGES)


@contextmanager
def running(root: Path, folder: Path) -> Iterator[Firewalld]:
    """`folder`: empty, for its settings, its log and the bus."""
    subject = Firewalld(root, folder)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for process in subject.start():
            processes.append(process)
        yield subject
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()
