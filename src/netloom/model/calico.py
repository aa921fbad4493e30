"""Calico's `projectcalico.org/v3` IPPool, IPReservation, FelixConfiguration, and what says who speaks BGP, as they are, into our own.

Both sides are plain values: what comes out is decoded like any manifest of ours.  Our fields are named like Calico's where they
mean the same.  Each other field of Calico's is here with the values that ask for what we do anyway; every other value, and
every field that is not here, is refused by name, never dropped.  (Fields: Calico's API reference, v3.31.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping

from netloom.model.showing import shown

API_VERSION = "projectcalico.org/v3"

Fields = Mapping[str, object]

_MODES: Mapping[str, str] = {"": "", "Never": "", "Always": "{}", "CrossSubnet": "{}CrossSubnet"}
"""What `ipipMode` and `vxlanMode` say of their encapsulation."""


class Unsupported(ValueError):
    """A field that asks for what this version does not do.  `field` is Calico's name of it, without `spec.`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _mode(value: object) -> str | None:
    return None if isinstance(value, str) and value in _MODES else f"{shown(value)} is none of Never, Always, CrossSubnet"


def _uses(value: object) -> str | None:
    if isinstance(value, list) and sorted(map(str, value)) == ["Tunnel", "Workload"]:
        return None
    return f"{shown(value)}: a pool serves pods and tunnel addresses alike; write [Workload, Tunnel], or leave it out"


def _assignment(value: object) -> str | None:
    return None if value == "Automatic" else f"{shown(value)}: write Automatic; to keep addresses back use an IPReservation"


_SAME = frozenset(("cidr", "blockSize", "natOutgoing", "nodeSelector", "namespaceSelector", "disabled", "disableBGPExport"))
_FELIX_SAME = frozenset(("vxlanVNI", "vxlanPort"))
_REFUSALS: Mapping[str, Callable[[object], str | None]] = {
    "vxlanMode": _mode,
    "ipipMode": _mode,
    "allowedUses": _uses,
    "assignmentMode": _assignment,
}


def translate(kind: str, spec: Fields) -> tuple[dict[str, object], tuple[Unsupported, ...]]:
    """Calico's spec of this kind → ours, and what of it is refused.  Raises KeyError for a kind that is not translated."""
    return _KINDS[kind]({name: value for name, value in spec.items() if value is not None})


def _pool(spec: Fields) -> tuple[dict[str, object], tuple[Unsupported, ...]]:
    ours = {name: value for name, value in spec.items() if name in _SAME}
    found = [_MODES.get(str(spec.get(f"{name.lower()}Mode", "")), "").format(name) for name in ("IPIP", "VXLAN")]
    ours["encapsulation"] = next(filter(None, found), "None")
    both = [Unsupported("vxlanMode", "one of ipipMode and vxlanMode has to be Never")] if all(found) else []
    return ours, (*_refused(spec), *both)


def _refused(spec: Fields) -> Iterator[Unsupported]:
    for name, value in spec.items():
        if name in _REFUSALS:
            reason = _REFUSALS[name](value)
            if reason is not None:
                yield Unsupported(name, reason)
        elif name not in _SAME:
            yield _unknown(name)


def _felix(spec: Fields) -> tuple[dict[str, object], tuple[Unsupported, ...]]:
    ours = {name: value for name, value in spec.items() if name in _FELIX_SAME}
    return ours, tuple(_unknown(name) for name in spec if name not in _FELIX_SAME)


def _unknown(name: str) -> Unsupported:
    return Unsupported(name, "this field of Calico's is not supported")


def _reservation(spec: Fields) -> tuple[dict[str, object], tuple[Unsupported, ...]]:
    """Calico takes single addresses for prefixes."""
    ours = dict(spec)
    if isinstance(cidrs := ours.get("reservedCIDRs"), list):
        ours["reservedCIDRs"] = [_prefix(cidr) for cidr in cidrs]
    return ours, ()


def _prefix(value: object) -> object:
    """What is no address is left to whoever decodes it."""
    try:
        return str(ipaddress.ip_network(value)) if isinstance(value, str) and "/" not in value else value
    except ValueError:
        return value


# BGP: field by field as ours, but for a few that ask for what is done anyway, or for what Calico's own parts write.


def _only(wanted: object, why: str) -> Callable[[object], str | None]:
    return lambda value: None if value == wanted else f"{shown(value)}: {why}"


_BGP_REFUSALS: Mapping[str, Mapping[str, Callable[[object], str | None]]] = {
    "BGPConfiguration": {
        "logSeverityScreen": _only("Info", "BIRD's log is not filtered here; write Info, or leave it out"),
        "programClusterRoutes": _only(
            "EnabledNoEncapOnly", "BIRD programs what crosses without a tunnel; write EnabledNoEncapOnly, or leave it out"
        ),
        "ipv4NormalRoutePriority": _only(1024, "BIRD's routes have metrics of their own; leave it out"),
        "ipv6NormalRoutePriority": _only(1024, "BIRD's routes have metrics of their own; leave it out"),
        "localWorkloadPeeringIPV4": _only("", "pods are no BGP peers here; leave it out"),
        "localWorkloadPeeringIPV6": _only("", "pods are no BGP peers here; leave it out"),
    },
    "BGPPeer": {"localWorkloadSelector": _only("", "pods are no BGP peers here; leave it out")},
    "BGPFilter": {},
}
_NODE_WRITES = frozenset(
    (
        *("addresses", "orchRefs", "wireguard", "ipv4VXLANTunnelAddr", "ipv6VXLANTunnelAddr"),
        *("vxlanTunnelMACAddr", "vxlanTunnelMACAddrV6"),
    )
)
_NODE_BGP_WRITES = frozenset(("ipv4IPIPTunnelAddr", "interfaces"))
"""What Calico's node writes of itself into its Node; ours writes its own."""


def _bgp(kind: str) -> Callable[[Fields], tuple[dict[str, object], tuple[Unsupported, ...]]]:
    refusals = _BGP_REFUSALS[kind]

    def translated(spec: Fields) -> tuple[dict[str, object], tuple[Unsupported, ...]]:
        found = {name: reason for name, value in spec.items() if name in refusals and (reason := refusals[name](value))}
        ours = {name: value for name, value in spec.items() if name not in refusals}
        if keep := ours.pop("keepOriginalNextHop", None):
            if keep is not True or ours.get("nextHopMode", "Keep") != "Keep":
                found["keepOriginalNextHop"] = "is an old name of `nextHopMode: Keep`; write that"
            ours["nextHopMode"] = "Keep"
        return ours, tuple(Unsupported(name, reason) for name, reason in found.items())

    return translated


def _node(spec: Fields) -> tuple[dict[str, object], tuple[Unsupported, ...]]:
    ours: dict[str, object] = {}
    refused = [_unknown(name) for name in spec if name not in _NODE_WRITES and name != "bgp"]
    if "bgp" in spec:
        bgp = spec["bgp"]
        ours["bgp"] = {n: v for n, v in bgp.items() if n not in _NODE_BGP_WRITES} if isinstance(bgp, dict) else bgp
    return ours, tuple(refused)


_KINDS: Mapping[str, Callable[[Fields], tuple[dict[str, object], tuple[Unsupported, ...]]]] = {
    "IPPool": _pool,
    "IPReservation": _reservation,
    "FelixConfiguration": _felix,
    **{kind: _bgp(kind) for kind in _BGP_REFUSALS},
    "Node": _node,
}
KINDS = tuple(_KINDS)
