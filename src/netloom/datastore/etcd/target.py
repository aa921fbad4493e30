"""What the datastore's setting says of an etcd: its servers, the prefix, and who we are to it.

    etcd:https://10.0.0.1:2379,https://10.0.0.2:2379?prefix=/netloom&caFile=/etc/netloom/ca.pem&user=netloom&passwordFile=…

Behind the question mark stand those of OPTIONS that are not in the settings `etcd…` (netloom.config puts these there).
A password is in a file alone, so nothing of this is a secret.  Files are read when a connection is made, not here.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from netloom.errors import ConfigError
from netloom.model.showing import shown

PORT = 2379
OPTIONS = ("prefix", "caFile", "certFile", "keyFile", "user", "passwordFile")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?\Z")
_PREFIX = re.compile(r"/[\x21-\x7e]*[^/\s]\Z")
_EXAMPLE = "write etcd:https://HOST:2379, several with commas (docs/howto/etcd.md)"


@dataclass(frozen=True, slots=True)
class Server:
    """`host`: a name or an address, an IPv6 one without brackets."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.place}"

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """Options that are not given are empty.  `ca_file`: empty means those that this machine trusts."""

    servers: tuple[Server, ...]
    prefix: str = "/netloom"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    user: str = ""
    password_file: str = ""

    @property
    def tls(self) -> bool:
        return self.servers[0].tls

    def __str__(self) -> str:
        return ",".join(map(str, self.servers))


def parse(text: str) -> Target:
    """What stands behind `etcd:`.  Raises ConfigError."""
    listed, _, query = text.partition("?")
    servers = tuple(_server(url.strip()) for url in listed.split(","))
    if len({server.tls for server in servers}) > 1:
        raise _wrong(f"{shown(listed)}: some are https and some http")
    return _checked(Target(servers, **_options(query)))


def require_grpc() -> None:
    """Raises ConfigError where it is not installed."""
    if importlib.util.find_spec("grpc") is None:
        raise ConfigError(
            "etcd needs grpcio, which is not installed here", path="datastore", hint="pip install 'netloom[etcd]'"
        )


def _server(url: str) -> Server:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", PORT if parts.port is None else parts.port
    except ValueError as e:
        raise _wrong(f"{shown(url)} is no server") from e
    if parts.scheme not in ("http", "https") or parts.path.strip("/") or "@" in parts.netloc or not port:
        raise _wrong(f"{shown(url)} is no server")
    if not _HOST.match(host):
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError as e:
            raise _wrong(f"{shown(url)} is no server") from e
    return Server(host, port, parts.scheme == "https")


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise _wrong(f"there is no option {shown(name)}; there are {', '.join(OPTIONS)}")
        if value:
            found[re.sub(r"([A-Z])", r"_\1", name).lower()] = value
    return found


def _checked(target: Target) -> Target:
    if not _PREFIX.match(target.prefix):
        raise ConfigError(f"{shown(target.prefix)} is no prefix", path="etcdPrefix", hint="write one like /netloom")
    files = {"etcdCaFile": target.ca_file, "etcdCertFile": target.cert_file, "etcdKeyFile": target.key_file}
    for name, path in (*files.items(), ("etcdPasswordFile", target.password_file)):
        if path and not path.startswith("/"):
            raise ConfigError(f"{shown(path)} is not an absolute path", path=name, hint="write the whole path")
        if path and name in files and not target.tls:
            raise ConfigError("is of no use without TLS", path=name, hint=f"write https: {target}")
    if bool(target.cert_file) != bool(target.key_file):
        raise ConfigError(
            "a certificate and its key go together", path="etcdCertFile, etcdKeyFile", hint="set both, or none of them"
        )
    if bool(target.user) != bool(target.password_file):
        raise ConfigError(
            "a user and a password go together",
            path="etcdUser, etcdPasswordFile",
            hint="set both, or none: with a certificate, its common name is the user",
        )
    return target


def _wrong(message: str) -> ConfigError:
    return ConfigError(message, path="datastore", hint=_EXAMPLE)
