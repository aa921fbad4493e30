"""Programs that only tests need: unpacked out of Debian packages into a cache, never installed, so no service ever starts.

    root = unpacked("bird2", "libssh-gcrypt-4")
    subprocess.Popen([root / "usr/sbin/bird", "-f"], env=environment(root))

Dependencies are not followed: name the libraries that the machine does not have beside the program.

What this Debian does not have can come from a newer one, `unpacked("containerd", suite="forky")`: with a list of sources and
indexes of its own, so that the machine's apt never hears of that suite.  A mirror has only the newest of a suite, so a version
cannot be named; what is in the cache stays in use.
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


SOURCES = """Types: deb
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def unpacked(*packages: str, suite: str = "") -> Path:
    """A folder with the files of these packages (`name` or `name=version`), laid out as under `/`.  `suite`: of another Debian
    than this machine's."""
    words = [*packages, f"/{suite}"] if suite else packages
    folder = CACHE / hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                _unpack(packages, Path(scratch), _sources_of(suite, Path(scratch)) if suite else [])
                (Path(scratch) / "root").rename(folder)
    return folder


def environment(root: Path) -> dict[str, str]:
    """The own one, with the libraries below `root` found first."""
    folders = [str(path) for base in ("lib", "usr/lib") for path in sorted((root / base).glob("*-linux-gnu*"))]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join([*folders, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])}


def _sources_of(suite: str, scratch: Path) -> list[str]:
    """Options that make apt-get work on this suite alone, in folders of its own."""
    (scratch / "lists/partial").mkdir(parents=True)
    (scratch / "cache/archives/partial").mkdir(parents=True)
    (scratch / "suite.sources").write_text(SOURCES.format(suite=suite))
    options = {
        "Dir::Etc::sourcelist": scratch / "suite.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": scratch / "lists",
        "Dir::Cache": scratch / "cache",
    }
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def _unpack(packages: tuple[str, ...], scratch: Path, options: list[str]) -> None:
    if not shutil.which("apt-get"):
        raise FileNotFoundError("apt-get: these tests unpack Debian packages")
    download = ["apt-get", *options, "download", "-q", *packages]
    if options or subprocess.run(download, cwd=scratch, capture_output=True, check=False).returncode != 0:
        subprocess.run(["apt-get", *options, "update", "-q"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(download, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    for archive in sorted(scratch.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, scratch / "root"], check=True)
