"""A private containerd on a machine with a netloom agent: Debian's 1.6, or a 2.x out of a newer Debian.

with containerd(inside, V1) as runtime:
    runtime.write_network({...})                     the conflist that it finds in /etc/cni/net.d
    pod = runtime.cri.run(Pod("web"))
    runtime.end(signal.SIGKILL)                      its shims and pods go on
    runtime.start()
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from netloom.cni.native import executable
from netloom.cni.protocol import unpack_request
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device_names
from tests import daemons
from tests.cni_calls import OTHERS
from tests.runtime.cri import SUITE, Cri
from tests.runtime.enclosure import Enclosure, Program
from tests.runtime.image import NAME, write_image

PACKAGES = ("containerd", "runc", "libseccomp2")
BUSYBOX = ("busybox-static",)
PLUGINS = "/opt/cni/bin"
CONFLIST = "/etc/cni/net.d/10-netloom.conflist"
CACHE = "/var/lib/cni/results"
_READY = 60.0


@dataclass(frozen=True)
class Version:
    """`spec`: the newest version of CNI that its libcni speaks."""

    name: str
    spec: str
    suite: str
    importing: tuple[str, ...]

    def conflist(self, **keys: object) -> dict[str, Any]:
        plugin = {"type": "netloom", **keys}
        return {"cniVersion": self.spec, "name": "pods", "plugins": [plugin]}


V1 = Version("1", "1.0.0", "", ())
V2 = Version("2", "1.1.0", SUITE, ("--local",))

_CONFIGS = {
    "1": """version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
""",
    "2": """version = 3
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs",
    "io.containerd.differ.v1.erofs", "io.containerd.nri.v1.nri"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{image}"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
""",
}


@dataclass
class Containerd:
    inside: Enclosure
    version: Version
    folder: str
    programs: list[str]
    _program: Program | None = None
    _open: list[Cri] = field(default_factory=list)

    @property
    def socket(self) -> str:
        return f"{self.folder}/containerd.sock"

    @property
    def log(self) -> str:
        return f"{self.folder}/containerd.log"

    @property
    def environment(self) -> dict[str, str]:
        """Its own, and that of shims, runc and CNI plugins."""
        libraries = daemons.environment(daemons.unpacked(*PACKAGES))["LD_LIBRARY_PATH"]
        return {
            "PATH": ":".join([*self.programs, "/usr/sbin:/usr/bin:/sbin:/bin"]),
            "LD_LIBRARY_PATH": libraries,
            "HOME": "/root",
        }

    @property
    def cri(self) -> Cri:
        return self._open[-1]

    @property
    def pid(self) -> int:
        assert self._program
        return self._program.pid

    def start(self) -> None:
        """Returns when it answers."""
        self.inside.thaw()
        self._forget_results_that_were_cut_off()
        self._program = self.inside.start(["containerd", "--config", f"{self.folder}/config.toml"], self.environment, self.log)
        deadline = time.monotonic() + _READY
        while not self.answers():
            alive = self._program.outer.poll() is None
            assert alive and time.monotonic() < deadline, Path(self.log).read_text()[-3000:]
            time.sleep(0.05)
        self._open.append(Cri(self.socket))

    def _forget_results_that_were_cut_off(self) -> None:
        """Its libcni writes the result of an ADD in place, and with one that it was killed over it calls no plugin for DEL any more,
        until somebody takes the file away."""
        for path in self.inside.path(CACHE).glob("*"):
            try:
                json.loads(path.read_bytes())
            except ValueError:
                path.unlink()

    def answers(self) -> bool:
        """Whether anybody does on its socket."""
        cri = Cri(self.socket)
        try:
            cri("Version", timeout=1)
        except grpc.RpcError:
            return False
        finally:
            cri.close()
        return True

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        while self._open:
            self._open.pop().close()
        if self._program:
            self._program.end(number)

    def restart(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.end(number)
        self.start()

    def ctr(self, *words: str, namespace: str = "default") -> str:
        program = ["ctr", "--address", self.socket, "--namespace", namespace, *words]
        return self.inside.run(*program, environment=self.environment)

    def attempt_ctr(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.inside.attempt("ctr", "--address", self.socket, *words, environment=self.environment)

    def write_network(self, conflist: Mapping[str, Any], path: str = CONFLIST) -> None:
        """Complete when it is there: the runtime watches the folder."""
        target = self.inside.path(path)
        target.with_suffix(".new").write_text(json.dumps(conflist))
        target.with_suffix(".new").rename(target)

    def wait_for_network(self, ready: bool = True) -> str:
        """Until the runtime says so of its network; its reason."""
        deadline = time.monotonic() + 60
        while (found := self.cri.conditions()["NetworkReady"])[0] is not ready:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found[1]

    def left(self) -> list[str]:
        """What it keeps of networks: names of namespaces, and results of CNI calls."""
        found = []
        for folder in ("/run/netns", CACHE):
            if self.inside.path(folder).is_dir():
                found += [f"{folder}/{name}" for name in os.listdir(self.inside.path(folder))]
        return sorted(found)

    def forget_unused(self) -> None:
        """Namespaces that it was killed over: it makes one before it notes the pod, and never finds it again.  No plugin has been
        called for such a one, so nothing but `lo` may be in there: one that has more stays, and a test finds it.  And DELs that it was
        killed over while it said what to delete, when no agent was there either: they are put aside, for people."""
        for path in (line for line in self.left() if line.startswith("/run/netns/")):
            if self._holds_nothing(path):
                self.inside.attempt("umount", path)  # it may not even be mounted yet
                self.inside.run("rm", path)
        for tombstone in Path(self.inside.machine.run_dir, "tombstones").glob(".*.damaged"):
            if _was_cut_off(tombstone.read_bytes()):
                tombstone.unlink()

    def _holds_nothing(self, path: str) -> bool:
        try:
            namespace = netns.open_netns(str(self.inside.path(path)))
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            return True  # a name without a namespace
        try:
            with Netlink(namespace) as kernel:
                return set(device_names(kernel).values()) == {"lo"}
        finally:
            os.close(namespace)

    def remove_all(self) -> None:
        """Every pod, as kubelet would."""
        for sandbox in self.cri.sandboxes():
            self.cri.remove(sandbox)


def _was_cut_off(tombstone: bytes) -> bool:
    """Whether the configuration in it ends before its end."""
    configuration = unpack_request(tombstone).stdin
    try:
        json.loads(configuration)
    except ValueError:
        return True
    return False


@contextmanager
def containerd(inside: Enclosure, version: Version, network: Mapping[str, Any] | None = None) -> Iterator[Containerd]:
    """One that is ready and has the image.  `network`: its conflist; else netloom alone."""
    own = daemons.unpacked("containerd", suite=version.suite) if version.suite else daemons.unpacked(*PACKAGES)
    folder = f"{inside.machine.folder}/containerd"
    os.mkdir(folder)
    put_plugins(inside)
    image = Path(folder, "image.tar")
    write_image(daemons.unpacked(*BUSYBOX) / "bin/busybox", image)
    programs = [str(own / "usr/bin"), str(daemons.unpacked(*PACKAGES) / "usr/sbin")]
    made = Containerd(inside, version, folder, programs)
    config = _CONFIGS[version.name].format(folder=folder, socket=made.socket, image=NAME)
    Path(folder, "config.toml").write_text(config)
    made.write_network(network or version.conflist())
    try:
        made.start()
        for namespace in ("k8s.io", "default"):
            made.ctr("images", "import", *version.importing, str(image), namespace=namespace)
        yield made
    finally:
        made.end(signal.SIGKILL)


def put_plugins(inside: Enclosure) -> None:
    """Ours, and Debian's beside it: the runtime wants `loopback`."""
    target = inside.path(PLUGINS)
    for plugin in (*Path(OTHERS).iterdir(), executable()):
        name = "netloom" if plugin == executable() else plugin.name
        if not (target / name).exists():
            shutil.copy(plugin, target / name)
