"""`-l`: label selectors in kubectl's language: `a=b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, joined by commas."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from netloom.errors import ConfigError
from netloom.model.showing import shown

Labels = Mapping[str, str]
Match = Callable[[Labels], bool]

_KEY = r"[A-Za-z0-9][A-Za-z0-9_./-]*"
_REQUIREMENT = re.compile(
    rf"""\s*(?:(?P<absent>!\s*{_KEY})
          | (?P<key>{_KEY})\s*
            (?: (?P<equality>==|=|!=)\s*(?P<value>[A-Za-z0-9_.-]*)
              | \s(?P<membership>in|notin)\s*\(\s*(?P<values>[A-Za-z0-9_.\s,-]*)\)
            )?
        )\s*(?P<end>,|\Z)""",
    re.VERBOSE,
)


def parse(text: str) -> Match:
    """Raises ConfigError that shows the place."""
    parts: list[Match] = []
    position, more = 0, bool(text.strip())
    while more:
        found = _REQUIREMENT.match(text, position)
        if not found:
            hint = "for example: -l 'app=web,tier in (a,b),!old'"
            raise ConfigError(f"{shown(text[position:])} is no label selector", where="-l", hint=hint)
        parts.append(_requirement(found))
        position, more = found.end(), found["end"] == ","
    return lambda labels: all(part(labels) for part in parts)


def _requirement(found: re.Match[str]) -> Match:
    if found["absent"]:
        absent = found["absent"][1:].strip()
        return lambda labels: absent not in labels
    key = found["key"]
    if found["equality"] in ("=", "=="):
        return lambda labels: labels.get(key) == found["value"]
    if found["equality"]:
        return lambda labels: labels.get(key) != found["value"]
    if not found["membership"]:
        return lambda labels: key in labels
    values = {value.strip() for value in found["values"].split(",")}
    if found["membership"] == "in":
        return lambda labels: labels.get(key) in values
    return lambda labels: labels.get(key) not in values
