"""What a virtual machine is made of: a stock Debian kernel with its modules, and the emulator; unpacked, not installed.

The kernel is what `linux-image-amd64` stands for on this Debian.  virtme-ng looks for its programs on PATH, and Debian's kmod acts
by the name that it is called by (its links are absolute, so they lead nowhere where the package is only unpacked): `tools` makes a
folder that holds them all.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.daemons import environment, unpacked

_META = "linux-image-amd64"
_EMULATOR = (
    *("qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"),
    *("libaio1", "libcapstone4", "libdaxctl1", "libfdt1", "libfuse3-3", "libglib2.0-0", "libibverbs1", "libjpeg62-turbo"),
    *("libndctl6", "libnl-3-200", "libnl-route-3-200", "libnuma1", "libpixman-1-0", "libpmem1", "libpng16-16", "librdmacm1"),
    *("libsasl2-2", "libslirp0", "liburing2", "libvdeplug2"),
)
_TOOLS = ("kmod", "busybox-static")
_KMOD = ("depmod", "modprobe", "modinfo", "insmod", "lsmod", "rmmod")


@dataclass(frozen=True, slots=True)
class Parts:
    """`modules`: the folder that has lib/modules/RELEASE."""

    image: Path
    modules: Path
    release: str
    kmod: Path


def parts() -> Parts:
    name = _package()
    root = unpacked(name)
    release = name.removeprefix("linux-image-")
    return Parts(root / f"boot/vmlinuz-{release}", root, release, unpacked(*_TOOLS) / "bin/kmod")


def tools(folder: Path) -> Path:
    """A folder for PATH, made below `folder`: the emulator, kmod by its names, a static busybox."""
    made = folder / "tools"
    made.mkdir()
    root = unpacked(*_TOOLS)
    for name in _KMOD:
        (made / name).symlink_to(root / "bin/kmod")
    (made / "busybox").symlink_to(root / "bin/busybox")
    emulator = made / "qemu-system-x86_64"
    emulator.write_text(_emulator())
    emulator.chmod(0o755)
    return made


def _emulator() -> str:
    """QEMU, with its libraries and firmware where they were unpacked."""
    root = unpacked(*_EMULATOR)
    libraries = shlex.quote(environment(root)["LD_LIBRARY_PATH"])
    program, *firmware = (
        shlex.quote(str(root / f"usr/{path}")) for path in ("bin/qemu-system-x86_64", "share/qemu", "share/seabios")
    )
    return f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {program} -L {firmware[0]} -L {firmware[1]} "$@"\n'


def _package() -> str:
    """linux-image-6.1.0-56-amd64, or whatever number is the newest one's."""
    if not (found := _dependency()):
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        found = _dependency()
    if not found:
        raise FileNotFoundError(f"{_META}: no Debian archive of this machine has it")
    return found


def _dependency() -> str:
    shown = subprocess.run(
        ["apt-cache", "show", _META], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    match = re.search(r"^Depends:.*?\b(linux-image-\d[\w.+-]*)", shown.stdout, re.MULTILINE)
    return match[1] if match else ""
