"""Showing: how a value that somebody wrote stands in a message, in one way everywhere.

Text in single quotes, everything else as YAML and JSON have it (true, null, [1, 2]), and not at length.
"""

from __future__ import annotations

import json

_MOST = 80  # characters


def shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str):
        text = text[1:-1].replace('\\"', '"')
    text = text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"
    return f"'{text}'" if isinstance(value, str) else text
