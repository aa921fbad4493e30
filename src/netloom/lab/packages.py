"""Programs that a lab runs and Netloom does not bring: unpacked out of Debian packages into a cache, never installed, so no
service ever starts and nothing of the machine changes.

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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netloom.errors import NetloomError

CACHE = Path.home() / ".cache" / "netloom" / "unpacked"
SOURCES = """Types: deb
URIs: http://deb.debian.org/debian
Suites: {suite}
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_LINES = 4


@dataclass(frozen=True, slots=True)
class Program:
    """What to start, and the environment that it needs over one's own; in which it is found by its name, too."""

    path: str
    environment: dict[str, str]


def bird() -> Program:
    """BIRD 2: the machine's own, else the one of its Debian, unpacked.  Raises NetloomError."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    own = shutil.which("bird", path=path)
    if own and not _is_old(own):
        return Program(own, {"PATH": path})
    root = unpacked("bird2", "libssh-gcrypt-4")
    libraries = environment(root)["LD_LIBRARY_PATH"]
    return Program(str(root / "usr/sbin/bird"), {"PATH": f"{root / 'usr/sbin'}:{path}", "LD_LIBRARY_PATH": libraries})


def _is_old(program: str) -> bool:
    """BIRD 1.6, which Debian had as `bird`, speaks another language.  It says its version on standard error."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return "version 1." in done.stdout + done.stderr


def unpacked(*packages: str, suite: str = "") -> Path:
    """A folder with the files of these packages (`name` or `name=version`), laid out as under `/`.  `suite`: of another Debian
    than this machine's.  Raises NetloomError."""
    words = [*packages, f"/{suite}"] if suite else packages
    folder = CACHE / hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with _alone(), tempfile.TemporaryDirectory(dir=CACHE) as scratch:
                _unpack(packages, Path(scratch), _sources_of(suite, Path(scratch)) if suite else [])
                (Path(scratch) / "root").rename(folder)
    return folder


@contextmanager
def _alone() -> Iterator[None]:
    """apt-get does not wait for another one that fetches indexes, it fails; and what is downloaded meanwhile may fail, too."""
    with (CACHE / "apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
        wanted = ", ".join(packages)
        raise NetloomError(
            f"{wanted} cannot be unpacked: there is no apt-get here", hint=f"install {packages[0]} on this machine"
        )
    download = ["apt-get", *options, "download", "-q", *packages]
    if options or subprocess.run(download, cwd=scratch, capture_output=True, check=False).returncode != 0:
        _run(["apt-get", *options, "update", "-q"], scratch)
        _run(download, scratch)
    for archive in sorted(scratch.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(scratch / "root")], scratch)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.splitlines()[-_LINES:]
        raise NetloomError("\n    ".join((f"{' '.join(command)}: exit code {done.returncode}", *lines)), hint="apt-get update")
