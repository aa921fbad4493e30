"""Programs that only tests need: unpacked out of Debian packages into a cache, never installed, so no service ever starts.

    root = unpacked("bird2", "libssh-gcrypt-4")
    subprocess.Popen([root / "usr/sbin/bird", "-f"], env=environment(root))

Dependencies are not followed: name the libraries that the machine does not have beside the program.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path.home() / ".cache" / "netloom" / "unpacked"


def unpacked(*packages: str) -> Path:
    """A folder with the files of these packages (`name`, `name=version` or `name/suite`), laid out as under `/`."""
    folder = CACHE / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                _unpack(packages, Path(scratch))
                (Path(scratch) / "root").rename(folder)
    return folder


def environment(root: Path) -> dict[str, str]:
    """The own one, with the libraries below `root` found first."""
    folders = [str(path) for base in ("lib", "usr/lib") for path in sorted((root / base).glob("*-linux-gnu*"))]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])}


def _unpack(packages: tuple[str, ...], scratch: Path) -> None:
    if not shutil.which("apt-get"):
        raise FileNotFoundError("apt-get: these tests unpack Debian packages")
    download = ["apt-get", "download", "-q", *packages]
    if subprocess.run(download, cwd=scratch, capture_output=True, check=False).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(download, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    for archive in sorted(scratch.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, scratch / "root"], check=True)
