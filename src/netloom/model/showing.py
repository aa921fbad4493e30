"""Showing: how a value that somebody wrote stands in a message, in one way everywhere.

Text in single quotes, or in double ones where it has single ones itself; everything else as YAML and JSON have it (true, null,
[1, 2]).  And not at length.
"""

from __future__ import annotations

import json

_MOST = 80  # characters


def shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    if not isinstance(value, str):
        return _cut(text)
    if "'" in value:
        return f'"{_cut(text[1:-1])}"'
    return "'" + _cut(text[1:-1].replace('\\"', '"')) + "'"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
