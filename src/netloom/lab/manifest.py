"""A lab's file: YAML → `Topology`, with errors that name file, line and field.

YAML is composed to nodes first, which know their lines; the plain values made from them are then decoded strictly.  An
error's path (`nodes[1].switch`) leads back to the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from netloom.errors import ConfigError
from netloom.lab.topology import Topology
from netloom.model.resources import dec_hook

_LIMIT = 1 << 20
_HINT = "see examples/ for files of labs; without a file it is three nodes on a switch: netloom lab up"
_MSGSPEC_PATH = re.compile(r" - at `\$\.?(.*)`\Z", re.DOTALL)
_LEADING_PATH = re.compile(r"((?:[a-zA-Z]\w*(?:\[\d+\])?\.?)+): ")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`\Z")

Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None


def load(path: str) -> Topology:
    try:
        data = Path(path).read_bytes()[: _LIMIT + 1]
        text = data.decode()
    except OSError as e:
        raise ConfigError(f"cannot be read: {e.strerror}", where=path, hint=_HINT) from e
    except UnicodeDecodeError as e:
        raise ConfigError("is not text in UTF-8", where=path, hint=_HINT) from e
    if len(data) > _LIMIT:
        raise ConfigError("is larger than 1 MiB", where=path, hint=_HINT)
    return decode(text, path)


def decode(text: str, where: str) -> Topology:
    """`where` is the file's name in errors (ConfigError)."""
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        raise ConfigError(f"is not YAML: {getattr(e, 'problem', e)}", where=place, hint=_HINT) from e
    if document is None:
        raise ConfigError("is empty", where=where, hint=_HINT)
    source = _Source(where)
    plain = source.plain(document, "")
    try:
        return msgspec.convert(plain, Topology, dec_hook=dec_hook, strict=True)
    except msgspec.ValidationError as e:
        path, message = _place(str(e))
        raise source.error(path, message) from e


class _Source:
    """Plain values out of YAML's nodes, and the line of each path."""

    def __init__(self, where: str) -> None:
        self.where, self.lines = where, dict[str, int]()
        self._seen = set[int]()
        self._loader = yaml.SafeLoader("")

    def error(self, path: str, message: str) -> ConfigError:
        known = next((p for p in _outwards(path) if p in self.lines), None)
        where = self.where if known is None else f"{self.where}:{self.lines[known]}"
        return ConfigError(message, where=where, path=path or None, hint=_HINT)

    def plain(self, node: yaml.Node, path: str) -> Plain:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            raise self.error(path, "aliases (*name) are not taken here")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, f"{path}[{i}]") for i, item in enumerate(node.value)]
        try:
            value: Plain = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as e:
            raise self.error(path, f"{node.value!r} cannot be used") from e
        return value

    def _mapping(self, node: yaml.MappingNode, path: str) -> Plain:
        found: dict[str, Plain] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(path, "a field's name must be plain text")
            child = f"{path}.{key.value}" if path else key.value
            self.lines[child] = key.start_mark.line + 1
            if key.value in found:
                raise self.error(child, "is given twice")
            found[key.value] = self.plain(value, child)
        return found


def _outwards(path: str) -> Iterator[str]:
    """`a.b[1].c`, `a.b[1]`, `a.b`, `a` and ""."""
    while path:
        yield path
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    yield ""


def _place(text: str) -> tuple[str, str]:
    """msgspec's words → path and message.  A path may stand at the end (msgspec's) and at the beginning (our checks')."""
    path = ""
    if match := _MSGSPEC_PATH.search(text):
        path, text = match[1], text[: match.start()]
    if match := _LEADING_PATH.match(text):
        inner = match[1].removeprefix("spec.")
        return f"{path}.{inner}" if path else inner, text[match.end() :]
    if match := _UNKNOWN.match(text):
        return f"{path}.{match[1]}" if path else match[1], "there is no such field"
    return path, text
