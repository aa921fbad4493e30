"""Starts a program in cgroups: `joining.py FOLDER... -- PROGRAM ARGUMENTS`.  Only a process itself can be moved before it starts.

And, as `joining.py inside FOLDER`, the first process of an enclosure (enclosure.py): it mounts what belongs to the enclosure
alone, says that it is ready, and then waits for nothing but its end, with which the kernel ends all others in there.

It imports little, because it stands before every program that a test starts in an enclosure.
"""

from __future__ import annotations

import os
import sys


def join(folders: list[str]) -> None:
    for folder in folders:
        with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))


def main() -> None:
    if sys.argv[1] == "inside":
        serve(sys.argv[2])
    divider = sys.argv.index("--")
    join(sys.argv[1:divider])
    os.execvp(sys.argv[divider + 1], sys.argv[divider + 1 :])


def serve(folder: str) -> None:
    import json
    import signal
    import socket
    import subprocess

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    forget_others()
    with open(f"{folder}/enclosure.json", encoding="utf-8") as file:
        wanted = json.load(file)
    for place in ("etc", "opt", "var"):
        upper, work = f"{folder}/upper/{place}", f"{folder}/work/{place}"
        os.makedirs(upper, exist_ok=True)
        os.makedirs(work, exist_ok=True)
        mount("-t", "overlay", "-o", f"lowerdir=/{place},upperdir={upper},workdir={work}", "overlay", f"/{place}")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    for made in ("/run/lock", "/run/netloom", "/opt/cni/bin", "/etc/cni/net.d", "/var/lib/cni"):
        os.makedirs(made, exist_ok=True)
    mount("--bind", wanted["runDir"], "/run/netloom")
    subprocess.run(["umount", "--recursive", "--lazy", "/sys/fs/cgroup"], check=True)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
    for place, (kind, options) in wanted["hierarchies"].items():
        os.makedirs(place, exist_ok=True)
        mount("-t", kind, *(["-o", options] if options else []), "cgroup", place)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whoever loses its parent in here leaves no zombie
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notification:
        notification.connect(os.environ["NOTIFY_SOCKET"])
        notification.send(b"READY=1")
    while True:
        signal.pause()


def forget_others() -> None:
    """Network namespaces of the host that a copy of its mounts would keep alive."""
    import subprocess

    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        pinned = [line.split()[4] for line in file if " - nsfs " in line]
    for place in pinned:
        # the kernel takes away here, too, what its owner has removed meanwhile
        subprocess.run(["umount", "--lazy", place], check=False, stderr=subprocess.DEVNULL)


main()
