"""BGP speakers that are not BIRD, in a router's namespace of a lab: FRR and GoBGP as a fabric may have them, ExaBGP for what none should say.

FRR's zebra insists on a group that only an installed FRR has made; it gets a mount namespace with a group file of its own.  GoBGP has
no hand in its kernel: it only talks.  All are processes of the lab by their mark, and go with it at the latest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netloom.dataplane import netns
from netloom.lab.cluster import Lab
from netloom.lab.processes import marked
from tests.daemons import environment, unpacked
from tests.waiting import eventually

FRR = ("frr", "libyang2", "libprotobuf-c1", "libc-ares2")
GOBGP = ("gobgpd",)
_BIN = Path(sys.executable).parent

_WITH_GROUP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
group, target, command = sys.argv[1], b"/etc/group", sys.argv[2:]
for failed in (
    libc.unshare(0x00020000),  # CLONE_NEWNS
    libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None),  # MS_REC | MS_PRIVATE
    libc.mount(group.encode(), target, None, 0x1000, None),  # MS_BIND
):
    if failed:
        sys.exit(f"errno {ctypes.get_errno()}")
os.execv(command[0], command)
"""


@dataclass(frozen=True)
class Speaker:
    """A daemon in a place of the lab.  `log`: what it has printed."""

    lab: Lab
    place: str
    folder: Path
    environment: dict[str, str]

    @property
    def log(self) -> Path:
        return self.folder / "speaker.log"

    @contextmanager
    def running(self, *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        environment = marked(self.lab.name, "speaker", self.place, self.environment)
        with self.log.open("ab") as log, self.lab.namespace(self.place) as namespace, netns.entered(namespace):
            process = subprocess.Popen([*map(str, command)], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
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
    speaker = Speaker(lab, place, folder, os.environ | settings)
    with speaker.running(_BIN / "exabgp", "server", folder / "exa.conf"):
        yield speaker


@contextmanager
def gobgp(lab: Lab, place: str, folder: Path, configuration: dict[str, object]) -> Iterator[Speaker]:
    """`configuration`: its TOML's content."""
    root = unpacked(*GOBGP)
    (folder / "gobgp.json").write_text(json.dumps(configuration))
    speaker = Speaker(lab, place, folder, dict(os.environ))
    with speaker.running(root / "usr/bin/gobgpd", "-t", "json", "-f", folder / "gobgp.json"):
        eventually(lambda: "rror" not in speaker.say(root / "usr/bin/gobgp", "global"))
        yield speaker


@contextmanager
def frr(lab: Lab, place: str, folder: Path, configuration: str) -> Iterator[Speaker]:
    """zebra, which puts into the kernel what bgpd learns, and bgpd."""
    root = unpacked(*FRR)
    libraries = environment(root)["LD_LIBRARY_PATH"]
    below = ":".join(str(path) for path in (root / "usr/lib").glob("*-linux-gnu*/frr"))
    speaker = Speaker(lab, place, folder, os.environ | {"LD_LIBRARY_PATH": f"{libraries}:{below}"})
    (folder / "group").write_text(Path("/etc/group").read_text() + "frrvty:x:64999:root\n")
    (folder / "bgpd.conf").write_text(configuration)
    (folder / "zebra.conf").write_text("")
    common = ("-u", "root", "-g", "root", "--vty_socket", folder, "-z", folder / "zserv.api", "-P", "0", "--log", "stdout")
    inside = (sys.executable, "-c", _WITH_GROUP, folder / "group")
    programs = [(root / "usr/lib/frr" / name, name) for name in ("zebra", "bgpd")]
    zebra, bgpd = (
        (*inside, program, *common, "-f", folder / f"{name}.conf", "-i", folder / f"{name}.pid") for program, name in programs
    )
    with speaker.running(*zebra):
        eventually((folder / "zserv.api").exists)
        with speaker.running(*bgpd):
            yield speaker
