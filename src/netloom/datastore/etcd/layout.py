"""Where records lie in etcd.  A prefix that is Netloom's alone, and below it:

    /netloom/identity          which store this is, made with it
    /netloom/KIND/KEY          a resource as JSON: /netloom/Node/node-0, /netloom/Endpoint/default/web-0

etcd knows keys as bytes in one order; all of a kind are the keys from `/netloom/KIND/` to before `/netloom/KIND0`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Keys from `first` to before `end`."""

    first: bytes
    end: bytes


class Layout:
    """`prefix` without a slash at its end."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}/".encode()
        self.all = _below(self._prefix)
        self.identity = self._prefix + b"identity"

    def key(self, kind: str, key: str) -> bytes:
        return self._prefix + f"{kind}/{key}".encode(errors="surrogateescape")

    def kind(self, kind: str) -> Span:
        return _below(self._prefix + f"{kind}/".encode(errors="surrogateescape"))

    def read(self, key: bytes) -> tuple[str, str]:
        """Kind and key.  Of what another program has put here, the same as well as may be: it names no resource."""
        kind, _, name = key[len(self._prefix) :].decode(errors="backslashreplace").partition("/")
        return kind, name


def _below(prefix: bytes) -> Span:
    return Span(prefix, prefix[:-1] + bytes((prefix[-1] + 1,)))
