"""podman with its CNI backend on a machine with a netloom agent: Debian's 4.3, the last that has it.

    podman = Podman(inside)
    podman.run("run", "--rm", "--network", "pods", NAME, "ip", "address")

There is no daemon; what goes on running is a conmon for each container, in the enclosure as well.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import daemons
from tests.runtime.containerd import BUSYBOX, PLUGINS, put_plugins
from tests.runtime.enclosure import Enclosure
from tests.runtime.image import NAME, write_image

PACKAGES = (
    *("podman", "conmon", "runc"),
    *("libassuan0", "libdevmapper1.02.1", "libglib2.0-0", "libgpgme11", "libseccomp2", "libsubid4"),
)
NETWORKS = "/etc/cni/net.d"

_CONFIGS = {
    # A process of this machine may lack CAP_SYS_RESOURCE: limits stay below those that it has.
    "containers.conf": """[containers]
apparmor_profile = "unconfined"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
seccomp_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
conmon_env_vars = ["PATH={path}", "LD_LIBRARY_PATH={libraries}"]
conmon_path = ["{root}/usr/bin/conmon"]
events_logger = "file"
runtime = "runc"
[engine.runtimes]
runc = ["{root}/usr/sbin/runc"]
[network]
cni_plugin_dirs = ["{plugins}"]
network_backend = "cni"
network_config_dir = "{networks}"
""",
    "storage.conf": """[storage]
driver = "overlay"
graphroot = "{folder}/storage"
runroot = "/run/containers/storage"
""",
    "policy.json": '{{"default": [{{"type": "insecureAcceptAnything"}}]}}',
    "registries.conf": "",
}


class Podman:
    def __init__(self, inside: Enclosure) -> None:
        self.inside = inside
        root, folder = daemons.unpacked(*PACKAGES), f"{inside.machine.folder}/podman"
        path = f"{root}/usr/bin:{root}/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        libraries = daemons.environment(root)["LD_LIBRARY_PATH"]
        self._environment = {"PATH": path, "LD_LIBRARY_PATH": libraries, "HOME": "/root"}
        os.mkdir(folder)
        put_plugins(inside)
        settings = inside.path("/etc/containers")
        settings.mkdir()
        for name, text in _CONFIGS.items():
            places = {"root": root, "folder": folder, "path": path, "libraries": libraries}
            (settings / name).write_text(text.format(**places, plugins=PLUGINS, networks=NETWORKS))
        write_image(daemons.unpacked(*BUSYBOX) / "bin/busybox", Path(folder, "image.tar"))
        identity = self.run("pull", "--quiet", f"oci-archive:{folder}/image.tar").strip()
        self.run("tag", identity, NAME)

    def run(self, *words: str) -> str:
        """What it prints; AssertionError with what it complained of where it fails."""
        done = self.attempt(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.inside.attempt("podman", *words, environment=self._environment)

    def write_network(self, conflist: Mapping[str, Any]) -> None:
        self.inside.path(f"{NETWORKS}/{conflist['name']}.conflist").write_text(json.dumps(conflist))

    def inspect(self, container: str) -> dict[str, Any]:
        [found] = json.loads(self.run("inspect", container))
        settings: dict[str, Any] = found["NetworkSettings"]
        return settings

    def left(self) -> list[str]:
        """Names of namespaces, and results of CNI calls."""
        found = []
        for folder in ("/run/netns", "/var/lib/cni/results"):
            if self.inside.path(folder).is_dir():
                found += [f"{folder}/{name}" for name in os.listdir(self.inside.path(folder))]
        return sorted(found)
