"""A passage through the real firewalld, with a message bus of its own in the test's namespace."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netloom.dataplane.foreign import ForeignFirewalls
from netloom.model.desired import Filter
from tests import daemons
from tests.kernel.dataplane.foreign.conftest import Passes

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
POOLS = frozenset(ipaddress.ip_network(text) for text in ("10.244.0.0/24", "fd00:10:244::/64"))
WANT = Filter(pools=POOLS)
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
        _wait(lambda: (self.folder / "bus").exists())
        daemon = ["/usr/bin/python3", str(self.root / "usr/sbin/firewalld"), "--nofork", "--nopid", "--log-target", "file"]
        daemon += ["--log-file", str(self.folder / "log"), "--system-config", str(self.folder / "etc")]
        yield self._popen(*daemon, "--default-config", str(self.root / "usr/lib/firewalld"))
        _wait(lambda: self.command("--state").returncode == 0)

    def _popen(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def root() -> Path:
    """Before any test enters its namespace, where there are no packages to be had."""
    return daemons.unpacked(*PACKAGES)


@pytest.fixture
def firewalld(root: Path, node: int, tmp_path: Path) -> Iterator[Firewalld]:
    subject = Firewalld(root, tmp_path)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for process in subject.start():
            processes.append(process)
        yield subject
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def test_pools_pass_firewalld_before_and_after_a_reload(firewalld: Firewalld, passes: Passes) -> None:
    firewalls = ForeignFirewalls()
    assert passes(4) == passes(6) == (False, False)
    for act in ("--state", "--reload", "--complete-reload", "--panic-off"):
        firewalld.command(act)
        outcome = firewalls.reconcile(WANT)
        assert not outcome.failures
        assert str(firewalls.reconcile(WANT)) == "same"
        assert passes(4) == passes(6) == (True, True), act
    firewalls.reconcile(Filter())
    assert passes(4) == passes(6) == (False, False)
    assert "NETLOOM" not in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
