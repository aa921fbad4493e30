"""Findings: what a judgement says, with its weight and the next thing to type.  `netloom status` and `check node` speak in them."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Level(enum.IntEnum):
    """In order of weight."""

    UNKNOWN = 3
    PROBLEM = 2
    WARNING = 1


SIGNS = {Level.UNKNOWN: "?", Level.PROBLEM: "✗", Level.WARNING: "!"}


@dataclass(frozen=True, slots=True)
class Finding:
    """`where`: a file, an interface, a table, if the message does not start with it.  `hint`: the command that repairs it."""

    level: Level
    message: str
    hint: str = ""
    where: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """3: something could not be found out; 1: a problem; 0: well."""
    worst = max((f.level for f in findings), default=Level.WARNING)
    return {Level.UNKNOWN: 3, Level.PROBLEM: 1, Level.WARNING: 0}[worst]
