"""Flannel's `net-conf.json`, as it is, into a pool per family and the cluster's numbers.

    {"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan", "DirectRouting": true}}

What comes out is plain values, decoded like any manifest of ours.  Defaults are Flannel's (VNI 1, port 8472, a /24 for each node), so
that nodes of both could be peers.  Whether traffic that leaves is masqueraded is not in the file but a flag of flanneld's, which all
its manifests give: it is.  Each field that asks for something else than what we do is refused by name.
(Fields: Flannel's Documentation/configuration.md and backends.md, v0.27.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netloom.model.forms import Method

FILE = "net-conf.json"

Fields = Mapping[str, object]

_METHODS: Mapping[str, Method] = {"vxlan": Method.VXLAN, "host-gw": Method.NONE, "ipip": Method.IPIP, "udp": Method.UDP}
_OVERHEADS: Mapping[Method, int] = {Method.VXLAN: 50, Method.NONE: 0, Method.IPIP: 20, Method.UDP: 28}
_VNI, _VXLAN_PORT, _UDP_PORT = 1, 8472, 8285
_TOP = frozenset(
    ("Network", "IPv6Network", "SubnetLen", "IPv6SubnetLen", "EnableIPv4", "EnableIPv6", "EnableNFTables", "Backend")
)
_BACKEND: Mapping[Method, frozenset[str]] = {
    Method.VXLAN: frozenset(("Type", "VNI", "Port", "DirectRouting", "MTU", "Learning", "GBP")),
    Method.NONE: frozenset(("Type", "MTU")),
    Method.IPIP: frozenset(("Type", "DirectRouting", "MTU")),
    Method.UDP: frozenset(("Type", "Port", "DirectRouting", "MTU")),
}


class Unsupported(ValueError):
    """A field that cannot be taken.  `path` as in the file: `Backend.Type`."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Part:
    """One object of ours.  `paths`: where in the file a field of it was said."""

    value: dict[str, object]
    paths: Mapping[str, str]


def is_one(value: object) -> bool:
    """Whether this is meant to be a net-conf: it has no kind, and a network."""
    return isinstance(value, dict) and "kind" not in value and bool({"Network", "IPv6Network"} & value.keys())


def translate(config: Fields) -> tuple[tuple[Part, ...], tuple[Unsupported, ...]]:
    """Objects of ours, and what is refused: then nothing of it should be applied."""
    refused = list(_unknown(config))
    backend = config.get("Backend")
    method = None
    if backend is None:
        refused.append(Unsupported("Backend", "is missing: flanneld takes udp then, its documentation says vxlan; write which"))
    elif not isinstance(backend, dict):
        refused.append(Unsupported("Backend", "expected a mapping of fields"))
    else:
        method = _METHODS.get(str(backend.get("Type", "")).lower())
        refused += _backend(backend, method)
    if refused or method is None or not isinstance(backend, dict):
        return (), tuple(refused)
    encapsulation = f"{method.value}CrossSubnet" if backend.get("DirectRouting") else method.value
    return (*_pools(config, encapsulation), *_numbers(backend, method)), ()


def _unknown(config: Fields) -> Iterator[Unsupported]:
    for name in config.keys() - _TOP:
        hint = (
            "a pool gives out all of its blocks; keep addresses back by an IPReservation"
            if name.endswith(("Min", "Max"))
            else ""
        )
        yield Unsupported(name, hint or "this field of Flannel's is not supported")
    for name in ("EnableIPv4", "EnableIPv6", "EnableNFTables"):
        if not isinstance(config.get(name, False), bool):
            yield Unsupported(name, "expected true or false")
    for version, name in ((4, "Network"), (6, "IPv6Network")):
        if _enabled(config, version) and not isinstance(config.get(name), str):
            yield Unsupported(name, f"is missing: it takes the range of IPv{version} addresses for pods")


def _enabled(config: Fields, version: int) -> bool:
    return bool(config.get(f"EnableIPv{version}", version == 4))


def _backend(backend: Fields, method: Method | None) -> Iterator[Unsupported]:
    if method is None:
        kind = backend.get("Type", "")
        yield Unsupported("Backend.Type", f"{kind} is none of {', '.join(_METHODS)}")
        return
    for name, value in backend.items():
        if name not in _BACKEND[method]:
            yield Unsupported(f"Backend.{name}", f"is no field of {backend['Type']} that is supported")
        elif name in ("Learning", "GBP", "DirectRouting") and not isinstance(value, bool):
            yield Unsupported(f"Backend.{name}", "expected true or false")
        elif name in ("Learning", "GBP") and value:
            yield Unsupported(
                f"Backend.{name}", "our VXLAN device learns nothing and marks nothing; write false, or leave it out"
            )
        elif name in ("VNI", "Port", "MTU") and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            yield Unsupported(f"Backend.{name}", "expected a whole number")


def _pools(config: Fields, encapsulation: str) -> Iterator[Part]:
    for version, name, prefix in ((4, "flannel", ""), (6, "flannel-ipv6", "IPv6")):
        if _enabled(config, version):
            spec = {"cidr": config[f"{prefix}Network"], "encapsulation": encapsulation, "natOutgoing": True}
            size = config.get(f"{prefix}SubnetLen", _subnet_length(str(config["Network"])) if version == 4 else None)
            spec |= {"blockSize": size} if size else {}
            paths = {"spec.cidr": f"{prefix}Network", "spec.blockSize": f"{prefix}SubnetLen"}
            yield Part(_document("IPPool", name, spec), paths)


def _subnet_length(network: str) -> int | None:
    """What a node gets where the file does not say."""
    try:
        length = ipaddress.IPv4Network(network).prefixlen
    except ValueError:
        return None  # whoever decodes the pool says why
    return 24 if length <= 22 else min(length + 2, 32)


def _numbers(backend: Fields, method: Method) -> Iterator[Part]:
    """Flannel's MTU is that of the interface underneath."""
    numbers: dict[str, object] = {}
    if method is Method.VXLAN:
        numbers = {"vxlanVNI": backend.get("VNI", _VNI), "vxlanPort": backend.get("Port") or _VXLAN_PORT}
    elif method is Method.UDP:
        numbers = {"udpPort": backend.get("Port") or _UDP_PORT}
    if isinstance(mtu := backend.get("MTU"), int) and mtu:
        numbers["mtu"] = mtu - _OVERHEADS[method]
    if numbers:
        paths = {
            "spec.vxlanVNI": "Backend.VNI",
            "spec.vxlanPort": "Backend.Port",
            "spec.udpPort": "Backend.Port",
            "spec.mtu": "Backend.MTU",
        }
        yield Part(_document("FelixConfiguration", "default", numbers), paths)


def _document(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": "netloom.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
