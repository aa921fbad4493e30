"""A reason against what somebody wants to write."""

from __future__ import annotations

from dataclasses import dataclass

from netloom.model.resources import AnyResource


@dataclass(frozen=True, slots=True)
class Problem:
    """Why `resource` is refused, with the path of the field, and the next thing to do."""

    resource: AnyResource
    path: str
    message: str
    hint: str
