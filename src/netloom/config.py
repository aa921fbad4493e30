"""Settings: one frozen value, one loader.  File, then environment (`NETLOOM_NODE_NAME`), then flags; the last one wins."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from netloom.errors import ConfigError
from netloom.model.addresses import Interface
from netloom.model.resources import dec_hook
from netloom.model.validation import check_object_name

DEFAULT_FILE = "/etc/netloom/agent.yaml"
ENVIRONMENT = "NETLOOM_"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """node_name            who this node is; default: the host name, in lower case
    node_addresses       underlay addresses `ADDRESS/LENGTH`; default: found, see agent.addressing
    datastore            `sqlite:PATH` or `memory:` (one process only)
    run_dir              sockets and journal; a tmpfs, gone at reboot
    state_dir            block claims and the node's identity; survives reboot
    mtu                  of pod interfaces, in bytes; 0: the uplink's less the encapsulation's
    vxlan_vni, vxlan_port  the same on every node (1 and 8472 speak with Flannel)
    cool_down            seconds before an address is given out again
    health_address       `ADDRESS:PORT` of /livez, /readyz and /metrics; empty: none
    resync_interval      seconds between full passes when nothing happens
    """

    node_name: str = ""
    node_addresses: tuple[Interface, ...] = ()
    datastore: str = "sqlite:/var/lib/netloom/datastore.db"
    run_dir: str = "/run/netloom"
    state_dir: str = "/var/lib/netloom"
    mtu: int = 0
    vxlan_vni: int = 4096
    vxlan_port: int = 4789
    cool_down: float = 30.0
    health_address: str = "127.0.0.1:9477"
    resync_interval: float = 60.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.node_name:
            msgspec.structs.force_setattr(self, "node_name", socket.gethostname().lower())
        check_object_name(self.node_name)
        if self.mtu and not 576 <= self.mtu <= 65535:
            raise ValueError(f"mtu: {self.mtu} is out of range; 576 to 65535, or 0 to compute it")
        if not 1 <= self.vxlan_vni < 1 << 24:
            raise ValueError(f"vxlanVni: {self.vxlan_vni} is out of range; 1 to 16777215")
        if not 1 <= self.vxlan_port < 1 << 16:
            raise ValueError(f"vxlanPort: {self.vxlan_port} is out of range; 1 to 65535")
        if self.cool_down < 0 or self.resync_interval <= 0:
            raise ValueError("coolDown must not be negative, resyncInterval must be positive")
        if self.log_level not in LOG_LEVELS:
            raise ValueError(f"logLevel: {self.log_level!r} is none of {', '.join(LOG_LEVELS)}")

    @property
    def cni_socket(self) -> str:
        return f"{self.run_dir}/cni.sock"

    @property
    def api_socket(self) -> str:
        """Read-only state as JSON, for the command line and the page."""
        return f"{self.run_dir}/netloom.sock"


LOG_LEVELS = ("debug", "info", "warning", "error")
_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def load(file: str | None = None, environment: Mapping[str, str] = os.environ, **flags: object) -> Settings:
    """Settings from all three places.  `file` None: the default file, if there is one.  Flags that are None are not given."""
    values: dict[str, object] = {}
    path = Path(file or environment.get(ENVIRONMENT + "CONFIG") or DEFAULT_FILE)
    if file or path.exists():
        values |= _read(path)
    for name, field in _FIELDS.items():
        text = environment.get(ENVIRONMENT + name.upper())
        if text is not None:
            values[field.encode_name] = yaml.safe_load(text) if field.type is not str else text
    values |= {_FIELDS[name].encode_name: value for name, value in flags.items() if value is not None}
    try:
        return msgspec.convert(values, Settings, dec_hook=dec_hook, strict=True)
    except msgspec.ValidationError as e:
        raise ConfigError(str(e), where=str(path) if path.exists() else "environment or flags") from e


def _read(path: Path) -> dict[str, object]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as e:
        raise ConfigError(f"cannot be read: {e.strerror}", where=str(path)) from e
    except yaml.YAMLError as e:
        raise ConfigError(f"is not YAML: {e}", where=str(path)) from e
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise ConfigError("is not a mapping of settings", where=str(path))
    return document
