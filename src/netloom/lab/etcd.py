"""etcd in a lab: members as daemons, each in a namespace, unpacked out of Debian's package where the machine has none.

A member listens for clients on 2379 and for other members on 2380 of one address.  With certificates, both take TLS alone, and
ask every client for one of its own.  It says by itself when it serves (sd_notify), which is when it has found a leader.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from netloom.lab.certificates import Certificate
from netloom.lab.daemons import Daemon
from netloom.lab.packages import unpacked

CLIENTS, MEMBERS = 2379, 2380
PACKAGES = ("etcd-server", "etcd-client")


@dataclass(frozen=True, slots=True)
class Secured:
    """By TLS.  `ask`: clients, too, have to show a certificate of that authority."""

    authority: str
    own: Certificate
    ask: bool = True


def program(name: str = "etcd") -> str:
    """`etcd` or `etcdctl`: the machine's own, or unpacked.  Raises NetloomError."""
    return shutil.which(name) or str(unpacked(*PACKAGES) / "usr/bin" / name)


def url(address: str, port: int = CLIENTS, *, tls: bool = False) -> str:
    host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    return f"{'https' if tls else 'http'}://{host}:{port}"


def member(
    name: str,
    members: Mapping[str, str],
    *,
    folder: str,
    namespace: str,
    secured: Secured | None = None,
    options: Sequence[str] = (),
) -> Daemon:
    """`members`: names and addresses of the whole cluster.  `folder` keeps its data, and its log.  `options`: more flags."""
    tls = secured is not None
    clients, others = (url(members[name], port, tls=tls) for port in (CLIENTS, MEMBERS))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    arguments = [
        program(),
        *(f"--name={name}", f"--data-dir={folder}/data", "--logger=zap", "--log-outputs=stderr"),
        *(f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}"),
        *(f"--listen-peer-urls={others}", f"--initial-advertise-peer-urls={others}"),
        "--initial-cluster=" + ",".join(f"{other}={url(where, MEMBERS, tls=tls)}" for other, where in members.items()),
        *(_tls(secured) if secured else ()),
        *options,
    ]
    return Daemon("etcd", name, arguments, folder, f"{folder}/etcd.log", namespace)


def _tls(secured: Secured) -> Sequence[str]:
    authority, own = secured.authority, secured.own
    return (
        *(f"--cert-file={own.certificate}", f"--key-file={own.key}"),
        *(f"--peer-trusted-ca-file={authority}", f"--peer-cert-file={own.certificate}", f"--peer-key-file={own.key}"),
        *((f"--trusted-ca-file={authority}", "--client-cert-auth") if secured.ask else ()),
        "--peer-client-cert-auth",
    )
