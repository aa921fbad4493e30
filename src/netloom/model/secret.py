"""Secret: passwords of BGP sessions.  Kubernetes' own manifests (core v1) apply as they are; all nodes share one set of names.

A Secret can be written, and used, but not read back: its text, `repr`, and what `netloom get` shows have keys without values.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from netloom.model.objects import Resource
from netloom.model.validation import check_secret_key

_KEYS = 64
_MOST = 4096  # bytes of one value
_TYPE = 253


class Secret(Resource, frozen=True, kw_only=True, tag="Secret"):
    """`data`: in base64, as Kubernetes has it."""

    PLURAL = "secrets"
    type: str = "Opaque"
    data: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.type) > _TYPE or not self.type.isprintable():
            raise ValueError("type: is no type of a Secret")
        if len(self.data) > _KEYS:
            raise ValueError(f"data: {len(self.data)} keys are too many; {_KEYS} at most")
        for key, text in self.data.items():
            check_secret_key(key, "data")
            try:
                value = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError(f"data[{key}]: is no base64; plain text goes into stringData") from None
            if len(value) > _MOST:
                raise ValueError(f"data[{key}]: {len(value)} bytes are too many; {_MOST} at most")

    def value(self, key: str) -> bytes | None:
        text = self.data.get(key)
        return None if text is None else base64.b64decode(text)

    def __repr__(self) -> str:
        return f"Secret({self.name!r}, keys={sorted(self.data)})"

    __str__ = __repr__
