"""How answers look: tables without borders that are never cut, JSON, YAML.

Everything printed may come from somebody else.  `clean` makes control characters visible in text, and JSON and YAML are
written so that they hold none: no terminal is ever commanded by a label.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

_GAP = "   "


def clean(text: str) -> str:
    """Printable characters as they are; all others (controls, ESC, direction marks) as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cell(value: object) -> str:
    """A value in a table: `-` for nothing, yes or no, several with commas."""
    match value:
        case None | "" | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case enum.Enum():
            return clean(str(value.value))
        case Mapping():
            return ",".join(f"{clean(str(k))}={clean(str(v))}" for k, v in sorted(value.items())) or "-"
        case tuple() | list():
            return ",".join(cell(part) for part in value)
    return clean(str(value))


def count(number: int, word: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "\n".join(line for line in Table(headers).lines(rows))


class Table:
    """A table that may go on: later rows keep the widths of the first ones, and grow where they must."""

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers, self._widths = headers, [len(header) for header in headers]
        self._begun = False

    def make_room(self, rows: Iterable[Sequence[object]]) -> list[list[str]]:
        """Columns wide enough for these rows, which are not printed.  Returns their cells."""
        texts = [[cell(value) for value in row] for row in rows]
        self._widths = [max(width, *(len(row[i]) for row in texts), 0) for i, width in enumerate(self._widths)]
        return texts

    def lines(self, rows: Iterable[Sequence[object]]) -> list[str]:
        texts = self.make_room(rows)
        if not self._begun:
            self._begun = True
            texts.insert(0, list(self._headers))
        return [_GAP.join(text.ljust(width) for text, width in zip(row, self._widths, strict=True)).rstrip() for row in texts]


def answer(output: str, kind: str, **fields: object) -> str:
    """What a command found, as JSON or YAML: apiVersion, kind and the fields.  Values may be resources and dataclasses."""
    import msgspec

    from netloom.model.resources import API_VERSION

    return structured(msgspec.to_builtins({"apiVersion": API_VERSION, "kind": kind, **fields}, enc_hook=str), output)


def structured(value: Any, output: str) -> str:  # Any: a JSON-like value
    return to_json(value) if output == "json" else to_yaml(value)


def to_json(value: Any) -> str:  # Any: a JSON-like value
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"[^\n]", lambda m: m[0] if m[0].isprintable() else _json_escape(m[0]), text)


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) >= 0x80 else f"\\u{ord(character):04x}"


def to_yaml(value: Any) -> str:  # Any: a JSON-like value
    """Block style, and ASCII alone.  What other YAML readers take for a number is quoted (`1e3` is text to PyYAML)."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9.]*[eE][-+]?[0-9]+\Z"), list("-+0123456789")
    )
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, default_flow_style=False).rstrip("\n")


def ago(then: datetime | None, now: datetime) -> str:
    """How long it has been, in kubectl's way: `45s`, `12m`, `3h5m`, `4d3h`."""
    return "-" if then is None else duration((now - then).total_seconds())


def duration(exactly: float) -> str:
    """The same, of seconds."""
    seconds = max(0, int(exactly))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 2:
        return f"{seconds}s"
    if hours < 2:
        return f"{minutes}m"
    if days < 2:
        return f"{hours}h{minutes % 60}m"
    return f"{days}d{hours % 24}h"
