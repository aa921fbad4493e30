"""Settings: one frozen value, one loader.  File, then environment (`NETLOOM_NODE_NAME`), then flags; the last one wins."""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import get_origin

import msgspec
import yaml

from netloom.errors import ConfigError
from netloom.model.addresses import Interface
from netloom.model.desired import Engine
from netloom.model.detection import parse_detection
from netloom.model.forms import check_mtu, check_port, check_vni
from netloom.model.resources import dec_hook
from netloom.model.showing import shown
from netloom.model.validation import check_object_name, within

DEFAULT_FILE = "/etc/netloom/agent.yaml"
ENVIRONMENT = "NETLOOM_"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """nodeName         who this node is; default: the host name, in lower case
    nodeAddresses    underlay addresses ADDRESS/LENGTH; default: the uplink's own
    ipAutodetectionMethod, ip6AutodetectionMethod
                     which address that is, for each family: default, first-found, interface=, skip-interface=, cidr=, can-reach=,
                     iface=, iface-regex= (docs/underlay.md)
    datastore        sqlite:PATH, etcd:https://HOST:2379 (several with commas; docs/howto/etcd.md), or memory: (one process only)
    etcdPrefix       keys of ours in etcd; the same on every node
    etcdCaFile       who signs etcd's certificates; default: those that this machine trusts
    etcdCertFile, etcdKeyFile
                     what we show etcd; its common name is the user where none is set
    etcdUser, etcdPasswordFile
                     and so we log in
    runDir           sockets and journal; a tmpfs, gone at reboot
    stateDir         block claims and the node's identity; survives reboot
    mtu              of pod interfaces, in bytes; 0: the uplink's less the encapsulation's
    vxlanVni         the same on every node (1 speaks with Flannel)
    vxlanPort        the same on every node (8472 speaks with Flannel)
    udpPort          the same on every node; of pools with encapsulation UDP
    tunnelEngine     who carries IPIP and UDP: auto, ebpf, forwarder (UDP alone) or kernel (IPIP alone); docs/forwarder.md
    tunnelXdp        true: datagrams of UDP tunnels are unpacked by the uplink's driver where it can, before GRO; false: by tc alone
    probePort        the same on every node; where they ask each other whether packets come through, UDP and TCP; 0: no probes
    probeInterval    seconds between two looks at one node, more where there are many; 0: asks nobody, and answers
    birdConfig       the file that BIRD reads, written by the agent; default: bird/bird.conf in stateDir (docs/bird.md)
    birdSocket       where BIRD takes commands; default: bird/bird.ctl in runDir
    birdPath         the program, which is only asked whether a file is right; default: the first `bird` in PATH
    coolDown         seconds before an address is given out again
    healthAddress    ADDRESS:PORT of /livez, /readyz and /metrics; empty: none
    resyncInterval   seconds between full passes when nothing happens
    logLevel         debug, info, warning or error
    """

    node_name: str = ""
    node_addresses: tuple[Interface, ...] = ()
    ip_autodetection_method: str = ""
    ip6_autodetection_method: str = ""
    datastore: str = "sqlite:/var/lib/netloom/datastore.db"
    etcd_prefix: str = ""
    etcd_ca_file: str = ""
    etcd_cert_file: str = ""
    etcd_key_file: str = ""
    etcd_user: str = ""
    etcd_password_file: str = ""
    run_dir: str = "/run/netloom"
    state_dir: str = "/var/lib/netloom"
    mtu: int = 0
    vxlan_vni: int = 4096
    vxlan_port: int = 4789
    udp_port: int = 8285
    tunnel_engine: str = "auto"
    tunnel_xdp: bool = True
    probe_port: int = 9478
    probe_interval: float = 60.0
    bird_config: str = ""
    bird_socket: str = ""
    bird_path: str = ""
    cool_down: float = 30.0
    health_address: str = "127.0.0.1:9477"
    resync_interval: float = 60.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.node_name:
            msgspec.structs.force_setattr(self, "node_name", socket.gethostname().lower())
        check_object_name(self.node_name, "nodeName")
        check_mtu(self.mtu, "mtu")
        check_vni(self.vxlan_vni, "vxlanVni")
        check_port(self.vxlan_port, "vxlanPort")
        check_port(self.udp_port, "udpPort")
        if self.udp_port == self.vxlan_port:
            raise ValueError(f"udpPort: {self.udp_port} is VXLAN's port already")
        for name, text in (
            ("ipAutodetectionMethod", self.ip_autodetection_method),
            ("ip6AutodetectionMethod", self.ip6_autodetection_method),
        ):
            within(name, parse_detection, text)
        if self.probe_port:
            check_port(self.probe_port, "probePort")
        for name, seconds in (("probeInterval", self.probe_interval), ("coolDown", self.cool_down)):
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name}: {seconds} is out of range; 0 or more seconds")
        if not 0 < self.resync_interval < math.inf:
            raise ValueError(f"resyncInterval: {self.resync_interval} is out of range; more than 0 seconds")
        if self.tunnel_engine not in TUNNEL_ENGINES:
            raise ValueError(f"tunnelEngine: {shown(self.tunnel_engine)} is none of {', '.join(TUNNEL_ENGINES)}")
        for name, path in (("runDir", self.run_dir), ("stateDir", self.state_dir)):
            if not os.path.isabs(path):
                raise ValueError(f"{name}: {shown(path)} is not an absolute path")
        for name, path in (("birdConfig", self.bird_config), ("birdSocket", self.bird_socket), ("birdPath", self.bird_path)):
            if path and (not os.path.isabs(path) or not path.isprintable() or '"' in path):
                raise ValueError(f"{name}: {shown(path)} is not an absolute path that BIRD can be told")
        if self.log_level not in LOG_LEVELS:
            raise ValueError(f"logLevel: {shown(self.log_level)} is none of {', '.join(LOG_LEVELS)}")

    @property
    def target(self) -> str:
        """The datastore with all that is set of it: what `netloom.datastore.connect` takes."""
        return self.completed(self.datastore)

    def completed(self, target: str) -> str:
        """An etcd with what the settings `etcd…` say, where it does not say so itself; others as they are."""
        if not target.startswith("etcd:"):
            return target
        from urllib.parse import parse_qsl, urlencode

        servers, _, own = target.partition("?")
        values = {_option(name): str(getattr(self, name)) for name in _FIELDS if name.startswith("etcd_")}
        options = {name: value for name, value in values.items() if value} | dict(parse_qsl(own, keep_blank_values=True))
        return f"{servers}?{urlencode(options, safe='/')}" if options else servers

    @property
    def cni_socket(self) -> str:
        return f"{self.run_dir}/cni.sock"

    @property
    def api_socket(self) -> str:
        """Read-only state as JSON, for the command line and the page."""
        return f"{self.run_dir}/netloom.sock"

    @property
    def bird(self) -> tuple[str, str, str]:
        """BIRD's file, its control socket, and the program, empty where it is to be found."""
        config = self.bird_config or f"{self.state_dir}/bird/bird.conf"
        return config, self.bird_socket or f"{self.run_dir}/bird/bird.ctl", self.bird_path


TUNNEL_ENGINES = ("auto", *(engine.value for engine in Engine))
LOG_LEVELS = ("debug", "info", "warning", "error")
_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
_HINT = "netloom agent --help lists the settings"
_PLACE = re.compile(r"(.*) - at `\$\.(\w+).*`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_OWN = re.compile(r"(\w+): (.*)", re.DOTALL)


def load(file: str | None = None, environment: Mapping[str, str] = os.environ, **flags: object) -> Settings:
    """Settings from all three places.  `file` None: the one that NETLOOM_CONFIG names, or the default file, if there is one.
    Flags that are None are not given.  Raises ConfigError that says where the value came from."""
    named = file or environment.get(ENVIRONMENT + "CONFIG")
    path = Path(named or DEFAULT_FILE)
    values = _read(path) if named or path.exists() else {}
    origins = dict.fromkeys(values, str(path))
    for name, field in _FIELDS.items():
        variable = ENVIRONMENT + name.upper()
        if (text := environment.get(variable)) is not None:
            values[field.encode_name] = _of_variable(field, text, variable)
            origins[field.encode_name] = variable
    for name, value in flags.items():
        if value is not None:
            values[_FIELDS[name].encode_name] = value
            origins[_FIELDS[name].encode_name] = f"--{name.replace('_', '-')}"
    try:
        return msgspec.convert(values, Settings, dec_hook=dec_hook, strict=True)
    except msgspec.ValidationError as e:
        setting, message = _reason(str(e))
        raise ConfigError(message, where=origins.get(setting), path=setting, hint=_HINT) from e


def _option(name: str) -> str:
    """`etcd_ca_file` → `caFile`."""
    own = _FIELDS[name].encode_name.removeprefix("etcd")
    return own[:1].lower() + own[1:]


def _of_variable(field: msgspec.structs.FieldInfo, text: str, variable: str) -> object:
    """Text as it is, numbers as YAML has them, several with commas."""
    if field.type is str:
        return text
    several = get_origin(field.type) is tuple and not text.startswith("[")
    return _parse(f"[{text}]" if several else text, variable)


def _reason(text: str) -> tuple[str, str]:
    """msgspec's words, or those of a check above → setting and message."""
    if found := _PLACE.fullmatch(text):
        return found[2], found[1]
    if found := _UNKNOWN.fullmatch(text):
        return found[1], "there is no such setting"
    found = _OWN.fullmatch(text)
    return (found[1], found[2]) if found else ("", text)


def _read(path: Path) -> dict[str, object]:
    try:
        document = _parse(path.read_bytes(), str(path))
    except OSError as e:
        raise ConfigError(f"cannot be read: {e.strerror}", where=str(path), hint=f"ls -l {path}") from e
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError("is not a mapping of settings", where=str(path), hint=_HINT)
    return document


def _parse(text: str | bytes, where: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"is not YAML: {getattr(e, 'problem', e)}", where=f"{where}{line}", hint=_HINT) from e
