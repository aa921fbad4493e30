"""The record of what was put on this host: /var/lib/netloom/installed.json, written before the first file and after the last.

For each file it has the hashes that it may have.  While an upgrade is under way these are two, the old one and the new one; so
whoever comes after a kill knows both for ours.  A file with another hash was changed by somebody, and is theirs.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping

import msgspec

from netloom.errors import ConfigError
from netloom.footprint.tree import Tree
from netloom.model.showing import shown

DIRECTORY = "/var/lib/netloom"
PATH = f"{DIRECTORY}/installed.json"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`directories`: those that were made, the outer before the inner.  `conflist`: its path; empty: it was never put.
    `sysctls`: switches as they were before."""

    version: str = ""
    files: Mapping[str, tuple[str, ...]] = {}
    directories: tuple[str, ...] = ()
    conflist: str = ""
    sysctls: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        for path in (*self.files, *self.directories, *filter(None, [self.conflist])):
            if not path.startswith("/") or posixpath.normpath(path) != path:
                raise ValueError(f"{shown(path)} is not the path of a file")

    def knows(self, path: str, content: bytes | None) -> bool:
        """Whether these are bytes that we put there."""
        return content is not None and digest(content) in self.files.get(path, ())

    def with_files(self, new: Mapping[str, bytes], *, keep: bool) -> Record:
        """`keep`: what they were before counts, too."""
        old = self.files if keep else {}
        found = {path: tuple(dict.fromkeys((*old.get(path, ()), digest(content)))) for path, content in new.items()}
        return msgspec.structs.replace(self, files={**self.files, **found})

    def with_directories(self, new: Iterable[str]) -> Record:
        return msgspec.structs.replace(self, directories=tuple(sorted({*self.directories, *new})))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read(tree: Tree) -> Record | None:
    """None: nothing was put here.  Raises ConfigError."""
    found = tree.look(PATH)
    if found is None:
        return None
    try:
        return msgspec.json.decode(found.content or b"", type=Record)
    except (msgspec.MsgspecError, ValueError) as e:
        hint = f"what it names can be removed by hand; then rm {PATH}, and netloom system install"
        raise ConfigError(f"the record of what was installed cannot be read: {e}", where=PATH, hint=hint) from e


def write(tree: Tree, record: Record) -> None:
    tree.put(PATH, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n", 0o600)


def remove(tree: Tree) -> None:
    tree.remove(PATH)
