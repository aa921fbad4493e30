"""Addressing: which of this machine's addresses the other nodes should use, and why that one.

For each family for itself: what `nodeAddresses` says; the rule that people have set (`ipAutodetectionMethod`, see model.detection); the
interface of the default route, unless no other node is on its link and some are on another's; the only interface that has
an address.  Never simply the first: on machines whose first interface is the same private network everywhere, as Vagrant's are,
that joins nobody.  What was passed over is told along with the choice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from netloom.config import Settings
from netloom.errors import ConfigError
from netloom.model.addresses import Address, Interface
from netloom.model.detection import DEFAULT, Detection, Rule, parse_detection
from netloom.model.host import Uplink

_SETTINGS = {4: "ipAutodetectionMethod", 6: "ip6AutodetectionMethod"}
_OTHERS = re.compile(
    r"docker.*|podman.*|br-.*|cbr.*|cni.*|virbr.*|lxcbr.*|lxc.*|dummy.*|veth.*|cali.*|tunl\d*|flannel.*|kube-.*|cilium.*|weave|wg.*"
    r"|vxlan\.calico|vxlan-v6\.calico|nodelocaldns"
)
"""Names of bridges, tunnels and pods of other programs: nodes are not reached there.  Calico's list, and some."""


@dataclass(frozen=True, slots=True)
class Choice:
    """`passed_over`: other addresses that would have done, each with its interface."""

    addresses: tuple[Interface, ...]
    reason: str
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        also = f"; passed over: {', '.join(self.passed_over)}" if self.passed_over else ""
        return f"{', '.join(map(str, self.addresses))}: {self.reason}{also}"


@dataclass(frozen=True, slots=True)
class Steering:
    """`setting`: the addresses themselves; `methods`: by family.  `others`: addresses of the other nodes; `reached`: what a packet to
    an address leaves with, where a method asks that."""

    setting: tuple[Interface, ...] = ()
    methods: Mapping[int, Detection] = field(default_factory=dict)
    others: Collection[Address] = ()
    reached: Mapping[Address, Address] = field(default_factory=dict)

    def method(self, version: int) -> Detection:
        return self.methods.get(version, DEFAULT)


def steering(
    settings: Settings, others: Collection[Address] = (), reached: Mapping[Address, Address] | None = None
) -> Steering:
    return Steering(settings.node_addresses, methods(settings), others, reached or {})


def methods(settings: Settings) -> Mapping[int, Detection]:
    texts = {4: settings.ip_autodetection_method, 6: settings.ip6_autodetection_method}
    return {version: parse_detection(text) for version, text in texts.items()}


def choose(uplinks: Mapping[str, Uplink], default_devices: Sequence[str], steering: Steering) -> Choice:
    """`default_devices`: interfaces of default routes, the best first.  Raises ConfigError where no choice is clear."""
    if steering.setting:
        held = {a.ip for uplink in uplinks.values() for a in uplink.addresses}
        for address in steering.setting:
            if address.ip not in held:
                raise ConfigError(f"no interface holds {address.ip}", path="nodeAddresses", hint="ip -br address")
        return _choice(uplinks, steering.setting, ["set by nodeAddresses"])
    found: list[Interface] = []
    reasons: list[str] = []
    plain = _by_default(uplinks, default_devices, steering)
    for version in (4, 6):
        method = steering.method(version)
        for address, reason in plain if method.rule is Rule.DEFAULT else _by_method(uplinks, version, method, steering):
            if address.version == version:
                found.append(address)
                reasons.append(reason)
    if not found:
        raise _unclear(uplinks)
    return _choice(uplinks, tuple(found), reasons)


def _choice(uplinks: Mapping[str, Uplink], addresses: tuple[Interface, ...], reasons: Iterable[str]) -> Choice:
    chosen, versions = {a.ip for a in addresses}, {a.version for a in addresses}
    passed = tuple(
        f"{address.ip} of {name}"
        for name, uplink in sorted(uplinks.items())
        for address in _usable(uplink)
        if address.ip not in chosen and address.version in versions
    )
    return Choice(addresses, "; ".join(dict.fromkeys(reasons)), passed)


Found = list[tuple[Interface, str]]


def _by_default(uplinks: Mapping[str, Uplink], default_devices: Sequence[str], steering: Steering) -> Found:
    """Of both families, from one interface.  Empty where no choice is clear."""
    ways = [name for name in default_devices if name in uplinks and _usable(uplinks[name])]
    links = {name: sum(on_link(uplink, other) for other in steering.others) for name, uplink in uplinks.items()}
    if ways and (links[ways[0]] or not (others := {name: n for name, n in links.items() if n and _usable(uplinks[name])})):
        return [(address, f"on {ways[0]}, the interface of the default route") for address in _usable(uplinks[ways[0]])]
    if ways:
        name = min(others, key=lambda name: (-others[name], name))
        reason = f"on {name}, whose link {others[name]} other nodes are on; on that of {ways[0]}, the default route's, is none"
        return [(address, reason) for address in _usable(uplinks[name])]
    candidates = {name: addresses for name, uplink in uplinks.items() if (addresses := _usable(uplink))}
    candidates = {name: found for name, found in candidates.items() if not _OTHERS.fullmatch(name)} or candidates
    if len(candidates) != 1:
        return []
    [(name, addresses)] = candidates.items()
    return [(address, f"on {name}, the only interface with an address") for address in addresses]


def _by_method(uplinks: Mapping[str, Uplink], version: int, method: Detection, steering: Steering) -> Found:
    """One address, or ConfigError: who sets a rule means it."""
    said = f"{_SETTINGS[version]} {method.text}"
    for name, uplink in uplinks.items():
        for address in _usable(uplink, every=True):
            if address.version == version and _fits(name, address, method, steering):
                return [(address, f"on {name}, by {said}")]
    seen = ", ".join(
        f"{a.ip} of {n}" for n, u in sorted(uplinks.items()) for a in _usable(u, every=True) if a.version == version
    )
    raise ConfigError(
        f"no address fits {method.text!r}; there is {seen or 'none'}", path=_SETTINGS[version], hint="ip -br address"
    )


def _fits(name: str, address: Interface, method: Detection, steering: Steering) -> bool:
    named = any(pattern.fullmatch(name) for pattern in method.patterns)
    match method.rule:
        case Rule.INTERFACE:
            return named
        case Rule.SKIP_INTERFACE:
            return not named and not _OTHERS.fullmatch(name)
        case Rule.CIDR:
            return any(address.ip in prefix for prefix in method.prefixes if prefix.version == address.version)
        case Rule.CAN_REACH:
            return method.destination is not None and steering.reached.get(method.destination) == address.ip
        case Rule.IFACE:
            return named or any(address.ip in prefix for prefix in method.prefixes if prefix.version == address.version)
        case Rule.IFACE_REGEX:
            return named or any(pattern.fullmatch(str(address.ip)) for pattern in method.patterns)
    return not _OTHERS.fullmatch(name)  # first found


def on_link(uplink: Uplink, address: Address) -> bool:
    """Whether `address` lies in one of its networks, and is not its own."""
    return any(own.version == address.version and own.ip != address and address in own.network for own in uplink.addresses)


def _usable(uplink: Uplink, *, every: bool = False) -> tuple[Interface, ...]:
    """The first address of each family that others can reach, or all of them; none while the interface is down."""
    found = [a for a in uplink.addresses if uplink.up and not (a.is_link_local or a.is_loopback or a.is_multicast)]
    if every:
        return tuple(found)
    first: dict[int, Interface] = {}
    for address in found:
        first.setdefault(address.version, address)
    return tuple(first[version] for version in sorted(first))


def _unclear(uplinks: Mapping[str, Uplink]) -> ConfigError:
    seen = ", ".join(sorted(name for name, uplink in uplinks.items() if _usable(uplink))) or "none"
    return ConfigError(
        f"which address should other nodes use? interfaces with one: {seen}",
        path="nodeAddresses",
        hint="set nodeAddresses: [ADDRESS/LENGTH] or ipAutodetectionMethod: interface=NAME in /etc/netloom/agent.yaml",
    )
