"""The container runtime of a host: where it looks for plugins and networks, and which version of CNI it speaks.

containerd says it in /etc/containerd/config.toml (`bin_dir`, since 2.1 `bin_dirs`, and `conf_dir`).  Debian's package says
/usr/lib/cni there, not /opt/cni/bin.  Everybody else, and a containerd that says nothing, takes the two well-known directories.

Version: libcni of containerd 1.x refuses a conflist of 1.1.0, that of 2.x understands it.  Which one is here is told by the program
itself (`containerd --version`); in an image, where nothing is run, by the file's own `version = 3`, which only 2.x can read.  In
doubt it is 1.0.0, which every runtime understands.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass, replace
from typing import TypeGuard

from netloom.errors import ConfigError
from netloom.footprint.tree import Tree

BIN_DIR, CONF_DIR = "/opt/cni/bin", "/etc/cni/net.d"
CONFIG = "/etc/containerd/config.toml"

_SECTIONS = ("io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri")  # of versions 3 and 2 of the file
_VERSION = re.compile(r"\sv?([0-9]+)\.([0-9]+)")
_DEADLINE = 10


@dataclass(frozen=True, slots=True)
class Runtime:
    """`major`: containerd's; 0 where there is none, or it is not known.  `config`: its file was read."""

    bin_dir: str = BIN_DIR
    conf_dir: str = CONF_DIR
    major: int = 0
    config: bool = False

    @property
    def cni_version(self) -> str:
        return "1.1.0" if self.major >= 2 else "1.0.0"


def find(tree: Tree) -> Runtime:
    """The runtime of the machine whose tree it is.  Raises ConfigError where its configuration cannot be read."""
    found = tree.look(CONFIG)
    runtime = parse((found.content or b"").decode(errors="replace")) if found else Runtime()
    if not tree.is_host:
        return runtime
    program = shutil.which("containerd")
    return replace(runtime, major=major_of(_ask(program)) if program else 0)


def parse(text: str) -> Runtime:
    """containerd's configuration.  Whatever is not said is as containerd has it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        hint = "containerd config dump; or say where: --cni-bin-dir, --cni-conf-dir"
        raise ConfigError(f"is not TOML: {e}", where=CONFIG, hint=hint) from e
    sections = [_table(_table(document.get("plugins")).get(name)) for name in _SECTIONS]
    cni = next((found for section in sections if (found := _table(section.get("cni")))), {})
    several = cni.get("bin_dirs")
    places = [cni.get("bin_dir"), *(several if isinstance(several, list) else [])]
    return Runtime(
        bin_dir=next((p for p in places if _is_path(p)), BIN_DIR),
        conf_dir=p if _is_path(p := cni.get("conf_dir")) else CONF_DIR,
        major=2 if document.get("version") == 3 else 0,
        config=True,
    )


def major_of(answer: str) -> int:
    """`containerd github.com/containerd/containerd/v2 v2.1.4 …` → 2"""
    found = _VERSION.search(answer)
    return int(found[1]) if found else 0


def _ask(program: str) -> str:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _is_path(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith("/")
