"""What the agent's process does without: OpenSSL, which would be a twentieth of its memory.

The standard library takes it along wherever it is there: asyncio for connections with TLS, of which the agent has none, and hashlib,
which has code of its own for SHA and BLAKE2.  Both manage where it cannot be imported.  So their first import has to happen here;
whoever needs OpenSSL later imports it as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

_OPENSSL = ("ssl", "_hashlib")


@contextmanager
def without_openssl() -> Iterator[None]:
    """Imports in this block do not find it.  Some distributions build hashlib without code of its own: there they do."""
    hidden = [name for name in _OPENSSL if name not in sys.modules] if find_spec("_sha1") else []
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: the import system's word for "not to be had"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
