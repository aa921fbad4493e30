"""Programs that only tests need: unpacked out of Debian packages into a cache, never installed, so no service ever starts.

bird = program("bird2", "usr/sbin/bird")
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

CACHE = Path.home() / ".cache" / "netloom" / "unpacked"


def unpacked(*packages: str) -> Path:
    """A folder that holds the files of these packages (`name`, `name=version`, `name/suite`), as under `/`.  No dependencies are added."""
    folder = CACHE / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                _unpack(packages, Path(scratch))
                (Path(scratch) / "root").rename(folder)
    return folder


def program(package: str, path: str) -> Path:
    """The file `path` of one package."""
    return unpacked(package) / path


def _unpack(packages: tuple[str, ...], scratch: Path) -> None:
    if not shutil.which("apt-get"):
        raise FileNotFoundError("apt-get: these tests unpack Debian packages")
    download = ["apt-get", "download", "-q", *packages]
    if subprocess.run(download, cwd=scratch, capture_output=True, check=False).returncode != 0:
        subprocess.run(["apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(download, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    for archive in sorted(scratch.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, scratch / "root"], check=True)
