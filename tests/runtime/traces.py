"""What a runtime could leave on the host: everything that it makes outside of a machine's own folder and namespaces.

    before = traces()
    ...
    assert changes(before) == []

Other tests may run beside: what is looked at is what only runtimes make, and what names a machine that is still there is not ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_OWN = (
    *("/run/containerd", "/run/containers", "/run/crun", "/run/runc", "/run/libpod", "/run/cni", "/run/netloom"),
    *("/var/lib/containerd", "/var/lib/containers", "/var/lib/cni", "/var/log/pods", "/var/cache/cni"),
    *(
        "/etc/cni",
        "/etc/containers",
        "/etc/containerd",
        "/opt/cni",
        "/opt/containerd",
        "/root/.config/containers",
        "/root/.cni",
    ),
)
_SHARED = {
    "/run/netns": "cni-|netns-",
    "/run/lock": "netavark|lockdev.*cni",
    "/dev/shm": "libpod",
    "/var/tmp": "storage|libpod|oci",
    "/tmp": "runc-|storage-run|podman-run|libpod",
}
"""Of these, what has such a name."""
_MACHINES = re.compile(r"(?<=/)nl-\w+")
_PROGRAMS = re.compile(r"containerd|conmon|podman|runc|ctr\Z|netavark")
_MOUNTS = re.compile(r"containerd|containers|/cni|k8s|overlay|shm ")


def traces() -> frozenset[str]:
    return frozenset((*_files(), *_links(), *_cgroups(), *_mounts(), *_processes()))


def changes(before: frozenset[str]) -> list[str]:
    """What has come (+) and gone (-) for good."""
    now = traces()
    found = [f"+ {line}" for line in now - before]
    found += [f"- {line}" for line in before - now if not _MACHINES.search(line)]
    return sorted(line for line in found if not any(os.path.isdir(f"/tmp/{machine}") for machine in _MACHINES.findall(line)))


def _files() -> Iterator[str]:
    """Folders that are there, and what stands in them; what a runtime makes below is in a folder that it makes first."""
    for folder in filter(os.path.isdir, _OWN):
        yield f"file {folder}"
        yield from (f"file {folder}/{name}" for name in os.listdir(folder))
    for folder, names in _SHARED.items():
        if os.path.isdir(folder):
            yield from (f"file {folder}/{name}" for name in os.listdir(folder) if re.match(names, name))


def _links() -> Iterator[str]:
    yield from (f"link {name}" for name in os.listdir("/sys/class/net"))


def _cgroups() -> Iterator[str]:
    """The uppermost: a runtime makes its own there, and what is deeper in another belongs to that one's maker."""
    for hierarchy in _mounted(("cgroup", "cgroup2")):
        yield from (f"cgroup {hierarchy}/{name}" for name in os.listdir(hierarchy) if os.path.isdir(f"{hierarchy}/{name}"))


def _mounts() -> Iterator[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    yield from (f"mount {line.split()[1]}" for line in lines if _MOUNTS.search(line))


def _processes() -> Iterator[str]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(FileNotFoundError, ProcessLookupError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if _PROGRAMS.match(name):
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield f"process {pid} {name} {arguments}"


def _mounted(kinds: tuple[str, ...]) -> list[str]:
    return [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] in kinds]
