"""BGP speakers that are not BIRD, in a router's namespace of a lab: FRR, GoBGP and OpenBGPD as a fabric may have them, ExaBGP for what none
should say.

FRR's zebra insists on a group that only an installed FRR has made, OpenBGPD on a user: they get a mount namespace with files of their
own.  GoBGP and OpenBGPD have no hand in their kernel: they only talk.  All are processes of the lab by their mark, and go with it at
the latest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from netloom.dataplane import netns
from netloom.lab import processes
from netloom.lab.cluster import Lab
from netloom.lab.processes import marked
from tests.daemons import environment, unpacked
from tests.waiting import eventually

FRR = ("frr", "libyang2", "libprotobuf-c1", "libc-ares2")
GOBGP = ("gobgpd",)
_BIN = Path(sys.executable).parent
_GRACE = 30.0

OPENBGPD = ("openbgpd",)

_WITH_FILES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
folder, names, command = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
for failed in (
    libc.unshare(0x00020000),  # CLONE_NEWNS
    libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None),  # MS_REC | MS_PRIVATE
    *(libc.mount(f"{folder}/{name}".encode(), f"/etc/{name}".encode(), None, 0x1000, None) for name in names),  # MS_BIND
):
    if failed:
        sys.exit(f"errno {ctypes.get_errno()}")
os.execv(command[0], command)
"""
"""A folder, names of files in it that stand in for those in /etc, and a command."""


@dataclass(frozen=True)
class Speaker:
    """Daemons in a place of the lab.  `log`: what they have printed."""

    lab: Lab
    place: str
    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "speaker.log"

    @contextmanager
    def running(self, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        environment = marked(self.lab.name, "speaker", self.place, self.environment)
        with self.log.open("ab") as log, self.lab.namespace(self.place) as namespace, netns.entered(namespace):
            process = subprocess.Popen([*map(str, command)], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def say(self, *command: str | Path) -> str:
        """What a command in its place answers."""
        with self.lab.namespace(self.place) as namespace, netns.entered(namespace):
            done = subprocess.run([*map(str, command)], env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def stand_still(self) -> None:
        """Alive, and silent; until they are ended."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)


@contextmanager
def _speaker(lab: Lab, place: str, folder: Path, environment: dict[str, str]) -> Iterator[Speaker]:
    """Nothing of it is alive when the block ends: children outlive their parents by a moment, and the next one wants their port."""
    try:
        yield Speaker(lab, place, folder, environment)
    finally:
        processes.end(lab.name, _GRACE, "speaker", place, signal.SIGKILL)


@contextmanager
def exabgp(lab: Lab, place: str, folder: Path, neighbours: Sequence[str]) -> Iterator[Speaker]:
    """`neighbours`: in the language of its configuration."""
    (folder / "exa.conf").write_text("\n".join(neighbours))
    settings = {
        "exabgp_daemon_user": "root",
        "exabgp_daemon_drop": "false",
        "exabgp_log_destination": "stdout",
        "exabgp_api_cli": "false",
    }
    with (
        _speaker(lab, place, folder, os.environ | settings) as speaker,
        speaker.running(_BIN / "exabgp", "server", folder / "exa.conf"),
    ):
        yield speaker


@contextmanager
def gobgp(lab: Lab, place: str, folder: Path, configuration: dict[str, object]) -> Iterator[Speaker]:
    """`configuration`: its TOML's content."""
    root = unpacked(*GOBGP)
    (folder / "gobgp.json").write_text(json.dumps(configuration))
    with (
        _speaker(lab, place, folder, dict(os.environ)) as speaker,
        speaker.running(root / "usr/bin/gobgpd", "-t", "json", "-f", folder / "gobgp.json"),
    ):
        eventually(lambda: "rror" not in speaker.say(root / "usr/bin/gobgp", "global"))
        yield speaker


@contextmanager
def frr(lab: Lab, place: str, folder: Path, configuration: str, bfd: str = "") -> Iterator[Speaker]:
    """zebra, which puts into the kernel what bgpd learns, and bgpd.  `bfd`: bfdd's configuration, if it is to run, too."""
    root = unpacked(*FRR)
    libraries = environment(root)["LD_LIBRARY_PATH"]
    below = ":".join(str(path) for path in (root / "usr/lib").glob("*-linux-gnu*/frr"))
    settings = {"LD_LIBRARY_PATH": f"{libraries}:{below}"}
    (folder / "group").write_text(Path("/etc/group").read_text() + "frrvty:x:64999:root\n")
    (folder / "bgpd.conf").write_text(configuration)
    (folder / "bfdd.conf").write_text(bfd)
    (folder / "zebra.conf").write_text("")
    common = ("-u", "root", "-g", "root", "--vty_socket", folder, "-z", folder / "zserv.api", "-P", "0", "--log", "stdout")
    inside = (sys.executable, "-c", _WITH_FILES, folder, "group")
    programs = [(root / "usr/lib/frr" / name, name) for name in ("zebra", "bfdd", "bgpd")]
    zebra, bfdd, bgpd = (
        (*inside, program, *common, "-f", folder / f"{name}.conf", "-i", folder / f"{name}.pid") for program, name in programs
    )
    with _speaker(lab, place, folder, os.environ | settings) as speaker, speaker.running(*zebra), ExitStack() as stack:
        eventually((folder / "zserv.api").exists)
        if bfd:
            stack.enter_context(speaker.running(*bfdd, "--bfdctl", folder / "bfdd.sock"))
        stack.enter_context(speaker.running(*bgpd))
        yield speaker


@contextmanager
def openbgpd(lab: Lab, place: str, folder: Path, configuration: str) -> Iterator[Speaker]:
    """`configuration`: in its language, but for its control socket.  It parts its privileges: what talks to peers is nobody, and locked up."""
    root = unpacked(*OPENBGPD)
    (folder / "empty").mkdir()
    (folder / "passwd").write_text(f"{Path('/etc/passwd').read_text()}_openbgpd:x:64998:64998::{folder / 'empty'}:/bin/false\n")
    (folder / "group").write_text(f"{Path('/etc/group').read_text()}_openbgpd:x:64998:\n")
    (folder / "bgpd.conf").write_text(f'socket "{folder / "bgpd.sock"}"\n{configuration}')
    (folder / "bgpd.conf").chmod(0o600)
    inside = (sys.executable, "-c", _WITH_FILES, folder, "passwd,group")
    with (
        _speaker(lab, place, folder, dict(os.environ)) as speaker,
        speaker.running(*inside, root / "usr/sbin/bgpd", "-d", "-f", folder / "bgpd.conf"),
    ):
        eventually((folder / "bgpd.sock").exists)
        yield speaker
