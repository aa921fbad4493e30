"""Certificates for a lab: an authority in a folder, and what it signs; made by `openssl`, which Debian has.

    authority = Authority("/run/netloom-lab/demo/tls")
    server = authority.issue("etcd", addresses=("192.168.100.11",))
    node = authority.issue("node-0")                        whose name etcd takes for the user's

Keys are of a curve, since those are made in milliseconds, and belong to root alone.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from netloom.errors import NetloomError

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_YEARS = 3650
_LINES = 4


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two files of PEM."""

    certificate: str
    key: str


class Authority:
    """Of a folder, which is made; one that was made there before goes on."""

    def __init__(self, folder: str, name: str = "lab authority") -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._folder = folder
        self._own = Certificate(f"{folder}/ca.pem", f"{folder}/ca.key")
        if not os.path.exists(self.file):
            _openssl(
                *("req", "-x509", *_NEW_KEY, "-keyout", self._own.key, "-out", self.file),
                *("-subj", f"/CN={name}", "-days", str(_YEARS)),
            )

    @property
    def file(self) -> str:
        """Its own certificate, by which others are known."""
        return self._own.certificate

    def issue(self, name: str, *, addresses: Sequence[str] = (), days: int = _YEARS) -> Certificate:
        """In the common name of `name`, good for these addresses and host names.  `days` 0: it has expired."""
        made = Certificate(f"{self._folder}/{name}.pem", f"{self._folder}/{name}.key")
        request = f"{self._folder}/{name}.csr"
        meant_for = ",".join(map(_subject, addresses))
        _openssl(
            *("req", "-new", *_NEW_KEY, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}"),
            *(("-addext", f"subjectAltName={meant_for}") if meant_for else ()),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-out", made.certificate, "-days", str(days), "-copy_extensions", "copy"),
            *("-CA", self.file, "-CAkey", self._own.key, "-set_serial", f"0x{secrets.token_hex(16)}"),
        )
        os.unlink(request)
        return made


def _subject(address: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(address)}"
    except ValueError:
        return f"DNS:{address}"


def _openssl(*arguments: str) -> None:
    try:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False, umask=0o077)
    except FileNotFoundError as e:
        raise NetloomError("there is no openssl, which makes a lab's certificates", hint="apt-get install openssl") from e
    if done.returncode != 0:
        lines = done.stderr.splitlines()[-_LINES:]
        raise NetloomError("\n    ".join((f"openssl {arguments[0]}: exit code {done.returncode}", *lines)))
