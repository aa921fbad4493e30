"""What `-f` names: a file, a directory's manifests, or `-` for standard input; read with a limit, and all errors at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from netloom.errors import ConfigError
from netloom.model.documents import MAX_BYTES
from netloom.model.manifest import Item, read

SUFFIXES = (".yaml", ".yml", ".json")


def manifests(sources: tuple[str, ...]) -> tuple[Item, ...]:
    """Raises ConfigError, or ExceptionGroup of several: then nothing should be applied."""
    manifest = read(pair for source in sources for pair in _contents(source))
    if manifest.errors:
        raise ExceptionGroup("nothing was written; correct the manifest and try again", manifest.errors)
    if not manifest.items:
        raise ConfigError(
            "there is nothing in it", where=", ".join(sources), hint="see what is there already: netloom get pools -o yaml"
        )
    return manifest.items


def _contents(source: str) -> Iterator[tuple[str, bytes]]:
    if source == "-":
        yield "standard input", sys.stdin.buffer.read(MAX_BYTES + 1)
        return
    try:
        for file in _files(source):
            with file.open("rb") as stream:
                yield str(file), stream.read(MAX_BYTES + 1)
    except OSError as e:
        hint = "-f takes a file, a directory, or - for standard input"
        raise ConfigError(f"cannot be read: {e.strerror}", where=e.filename or source, hint=hint) from e


def _files(source: str) -> list[Path]:
    path = Path(source)
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    if not found:
        raise ConfigError(f"holds no manifests ({', '.join(SUFFIXES)})", where=source, hint=f"ls {source}")
    return found
