"""Text that anybody may have written → plain values, and the line of every field.

YAML's core schema (YAML 1.2.2, section 10.3) over PyYAML's stream of events: one pass, no recursion, no objects but dict, list,
str, int, float, bool and None.  `yes`, `012`, `1:30` and dates are text here, so a label keeps the value that one reads.
JSON is read by the same code, since it is YAML's flow style.

The tricky thing is what YAML can do to its reader.  Aliases (with which 400 bytes unfold into gigabytes), tags, and nesting
deeper than MAX_DEPTH are refused as soon as their event comes, before libyaml has read on: its time is quadratic in depth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import yaml

from netloom.errors import ConfigError
from netloom.model.showing import shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 100_000

FieldPath = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: 20 times faster
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_MAX_DIGITS = 20
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Document:
    """A plain value and the line (from 1) of each field in it, by path.  `base` is the value's own path in the file's document."""

    value: object
    lines: Mapping[FieldPath, int]
    base: FieldPath = ()

    def line(self, path: FieldPath = ()) -> int:
        """The line of a field, or of what should hold it."""
        wanted = self.base + path
        while wanted not in self.lines:
            wanted = wanted[:-1]
        return self.lines[wanted]

    def within(self, path: FieldPath, value: object) -> Document:
        """The part at `path`, which is `value`."""
        return replace(self, value=value, base=self.base + path)


def read(data: bytes, file: str) -> tuple[Document, ...]:
    """All documents of a file that are not empty.  Raises ConfigError with file and line."""
    if len(data) > MAX_BYTES:
        raise ConfigError(f"is longer than {MAX_BYTES} bytes", where=file, hint="split the file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise ConfigError("is not UTF-8 text", where=f"{file}:{data.count(b'%c' % 10, 0, e.start) + 1}") from e
    if text.lstrip()[:1] in ("{", "["):
        text = _yaml_of_json(text)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as e:
        raise ConfigError(f"is not YAML: {_reason(e)}", where=f"{file}:{_line(e)}") from e
    return tuple(d for d in builder.documents if d.value is not None)


def _yaml_of_json(text: str) -> str:
    """The two things that JSON may have and YAML may not: tabs between tokens, and pairs of surrogates for one character."""
    joined = _PAIR.sub(lambda m: m[1] + bytes.fromhex(m[2] + m[3]).decode("utf-16-be"), text)
    return joined.replace("\t", " ")


def _reason(error: yaml.YAMLError) -> str:
    parts = [getattr(error, name, None) for name in ("context", "problem", "reason")]
    return ", ".join(part for part in parts if part)


def _line(where: yaml.Event | yaml.YAMLError) -> int:
    marks = (getattr(where, name, None) for name in ("start_mark", "problem_mark", "context_mark"))
    return next((mark.line + 1 for mark in marks if mark is not None), 1)


@dataclass(slots=True)
class _Open:
    """A mapping or sequence that is being read; `key` waits for its value."""

    value: dict[str, object] | list[object]
    path: FieldPath
    key: str | None = None


@dataclass(slots=True)
class _Builder:
    file: str
    documents: list[Document] = field(default_factory=list)
    open: list[_Open] = field(default_factory=list)
    lines: dict[FieldPath, int] = field(default_factory=dict)
    values: int = 0

    def take(self, event: yaml.Event) -> None:
        match event:
            case yaml.AliasEvent():
                raise self.error(event, "aliases (*name) are not read; write the value out")
            case yaml.NodeEvent() if event.anchor is not None:
                raise self.error(event, "anchors (&name) are not read; write the value out")
            case yaml.ScalarEvent() | yaml.CollectionStartEvent() if event.tag is not None:
                raise self.error(event, "tags (!name) are not read; put text in quotes")
            case yaml.ScalarEvent():
                self.scalar(event)
            case yaml.MappingStartEvent():
                self.enter({}, event)
            case yaml.SequenceStartEvent():
                self.enter([], event)
            case yaml.CollectionEndEvent():
                self.open.pop()

    def error(self, event: yaml.Event, message: str) -> ConfigError:
        return ConfigError(message, where=f"{self.file}:{_line(event)}")

    def scalar(self, event: yaml.ScalarEvent) -> None:
        top = self.open[-1] if self.open else None
        if top is None or isinstance(top.value, list) or top.key is not None:
            self.place(self.resolve(event), event)
            return
        if event.value in top.value:
            raise self.error(event, f"{shown(event.value)} is here twice")
        top.key = event.value
        self.lines[(*top.path, top.key)] = _line(event)

    def resolve(self, event: yaml.ScalarEvent) -> object:
        text: str = event.value
        if not event.implicit[0]:  # quoted
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.match(text):
            if len(text) > _MAX_DIGITS:
                raise self.error(event, f"{text[:_MAX_DIGITS]}… is too large a number")
            return int(text)
        return float(text) if _FLOAT.match(text) else text

    def enter(self, value: dict[str, object] | list[object], event: yaml.Event) -> None:
        if len(self.open) >= MAX_DEPTH:
            raise self.error(event, f"is nested deeper than {MAX_DEPTH}")
        path = self.place(value, event)
        self.open.append(_Open(value, path))

    def place(self, value: object, event: yaml.Event) -> FieldPath:
        """Puts a value where the stream is, and says where that was."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(event, f"holds more than {MAX_VALUES} values")
        line = _line(event)
        if not self.open:
            self.lines = {(): line}
            self.documents.append(Document(value, self.lines))
            return ()
        top = self.open[-1]
        if isinstance(top.value, list):
            path: FieldPath = (*top.path, len(top.value))
            top.value.append(value)
            self.lines[path] = line
            return path
        if top.key is None:
            raise self.error(event, "the name of a field must be text")
        path = (*top.path, top.key)
        top.value[top.key], top.key = value, None
        return path
