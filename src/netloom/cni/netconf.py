"""The network configuration on stdin: the keys that mean something to us, strictly typed.

Keys that we do not know are passed over, because runtimes and libcni add their own (`capabilities`, `type`, ...).  A key that
we do know with a value that we cannot serve is an error that names both: see `unserved`.

    {"cniVersion": "1.1.0", "name": "blue", "type": "netloom",
     "wiring": "bridge", "bridge": "blue.br0", "mtu": 1400, "ipv4Pools": ["blue"], "ipv6Pools": []}

or, as a network of this host alone:

    {"cniVersion": "1.1.0", "name": "blue", "type": "netloom",
     "wiring": "bridge", "bridge": "blue0", "subnet": "172.20.0.0/16", "gateway": "172.20.0.1", "internal": false}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

import msgspec

from netloom.cni.results import Dns
from netloom.ipam.networks import Declared
from netloom.model.addresses import parse_address, parse_prefix
from netloom.model.attachments import Bandwidth, Wiring
from netloom.model.showing import shown
from netloom.model.validation import check_interface_name, check_object_name

_RATE = (1000, 10**15)  # bits per second: what Kubernetes takes as a pod's bandwidth
_BURST = 8 * (2**32 - 1)  # bits: the kernel counts bytes in 32 bits
_MTU = (576, 65535)  # RFC 791: what every IPv4 host takes; the largest that an interface of ours can have

PoolNames = tuple[str, ...]
Texts = str | tuple[str, ...]
PortNumber = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_OURS = re.compile(r"loom([0-9a-f]{11}\Z|\.(vxlan|ipip|udp))")
_KEYS = {"cidr": "subnet", "natOutgoing": "ipMasq", "network": "name"}
"""What a pool's fields are called in a configuration."""
T = TypeVar("T")

Unserved = Any  # any JSON value: shown in the error, and not looked into


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    pass


class Head(_Part, frozen=True, kw_only=True):
    """What every command needs, and all that DEL looks at: a DEL must not fail for the rest."""

    cni_version: str = "0.1.0"  # SPEC 0.2.0: a configuration without a version is of version 0.1.0
    name: str


class Label(_Part, frozen=True, kw_only=True):
    key: str
    value: str


class CniArgs(_Part, frozen=True, kw_only=True):
    """`args.cni`, CONVENTIONS.md: labels as list of {key, value}; a plain mapping is taken, too."""

    labels: dict[str, str] | tuple[Label, ...] | None = None
    ips: tuple[str, ...] | None = None
    mac: str | None = None

    def label_mapping(self) -> dict[str, str]:
        if isinstance(self.labels, tuple):
            return {label.key: label.value for label in self.labels}
        return self.labels or {}


class Args(_Part, frozen=True, kw_only=True):
    cni: CniArgs | None = None


class PortMapping(_Part, frozen=True, kw_only=True):
    """Without a host port there is nothing to map; runtimes list such ports as well.  CONVENTIONS.md has it as here; containerd
    writes capitals."""

    host_port: PortNumber = 0
    container_port: PortNumber = 0
    protocol: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    capital_host_port: PortNumber = msgspec.field(default=0, name="HostPort")
    capital_container_port: PortNumber = msgspec.field(default=0, name="ContainerPort")
    capital_protocol: str = msgspec.field(default="", name="Protocol")
    capital_host_ip: str = msgspec.field(default="", name="HostIP")


class RuntimeBandwidth(_Part, frozen=True, kw_only=True):
    """Bits per second, and bits; 0 is no limit.  CONVENTIONS.md has it as here; containerd writes capitals."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0
    capital_ingress_rate: int = msgspec.field(default=0, name="IngressRate")
    capital_ingress_burst: int = msgspec.field(default=0, name="IngressBurst")
    capital_egress_rate: int = msgspec.field(default=0, name="EgressRate")
    capital_egress_burst: int = msgspec.field(default=0, name="EgressBurst")
    shaped_subnets: Unserved = None
    unshaped_subnets: Unserved = None

    def plain(self) -> Bandwidth | None:
        """None where no limit is asked for.  Raises ValueError."""
        found = Bandwidth(
            ingress_rate=self.ingress_rate or self.capital_ingress_rate,
            ingress_burst=self.ingress_burst or self.capital_ingress_burst,
            egress_rate=self.egress_rate or self.capital_egress_rate,
            egress_burst=self.egress_burst or self.capital_egress_burst,
        )
        _check_rate("ingress", found.ingress_rate, found.ingress_burst)
        _check_rate("egress", found.egress_rate, found.egress_burst)
        return found if found.ingress_rate or found.egress_rate else None


class RuntimeDns(_Part, frozen=True, kw_only=True):
    """CONVENTIONS.md has lower case; containerd writes capitals, and null for an empty list."""

    servers: tuple[str, ...] | None = None
    searches: tuple[str, ...] | None = None
    options: tuple[str, ...] | None = None
    capital_servers: tuple[str, ...] | None = msgspec.field(default=None, name="Servers")
    capital_searches: tuple[str, ...] | None = msgspec.field(default=None, name="Searches")
    capital_options: tuple[str, ...] | None = msgspec.field(default=None, name="Options")

    def plain(self) -> Dns:
        return Dns(
            nameservers=self.servers or self.capital_servers or (),
            search=self.searches or self.capital_searches or (),
            options=self.options or self.capital_options or (),
        )


class RuntimeConfig(_Part, frozen=True, kw_only=True):
    """Values for the capabilities that the configuration declares (CONVENTIONS.md, "Dynamic plugin specific fields")."""

    ips: tuple[str, ...] | None = None
    mac: str | None = None
    dns: RuntimeDns | None = None
    port_mappings: tuple[PortMapping, ...] | None = None
    bandwidth: RuntimeBandwidth | None = None
    ip_ranges: Unserved = None
    aliases: Unserved = None
    device_id: Unserved = msgspec.field(default=None, name="deviceID")
    infiniband_guid: Unserved = msgspec.field(default=None, name="infinibandGUID")


class Ipam(_Part, frozen=True, kw_only=True):
    type: str = ""


class NetworkConfig(Head, frozen=True, kw_only=True):
    """mtu           in bytes; 0: the agent's
    pools         names for both families; or ipv4Pools and ipv6Pools.  A family without a list: any pool that suits;
                  with an empty one: no address
    hairpinMode   of the port of a bridge (a pod reaches itself by way of a service); always on, so only true is served
    subnet        of a network of this host alone, whose pool this is: a prefix, or one of each family
    ipRange       the part of the subnet, or of each, that pods get addresses of; others may be asked for by name
    gateway       which the bridge holds: an address of the subnet, or of each; the first, unless said
    internal      true: nothing leaves it or comes in, and its pods have no default route
    isolated      true, unless said: kept apart from other networks and the cluster's pods
    ipMasq        true, unless it is internal: what leaves it takes the host's address
    """

    wiring: Wiring = Wiring.ROUTED
    bridge: str = "loom.br0"
    mtu: int = 0
    hairpin_mode: bool = True
    pools: PoolNames | None = None
    ipv4_pools: PoolNames | None = None
    ipv6_pools: PoolNames | None = None
    dns: Dns = Dns()
    ipam: Ipam = Ipam()
    ip_masq: bool | None = None
    subnet: Texts | None = None
    ip_range: Texts | None = None
    gateway: Texts | None = None
    internal: bool | None = None
    isolated: bool | None = None
    args: Args | None = None
    runtime_config: RuntimeConfig | None = None
    prev_result: msgspec.Raw = msgspec.Raw(b"null")

    def __post_init__(self) -> None:
        if self.mtu and not _MTU[0] <= self.mtu <= _MTU[1]:
            raise ValueError(f"mtu: {self.mtu} is out of range; {_MTU[0]} to {_MTU[1]}, or 0 for the agent's")
        try:
            check_interface_name(self.bridge)
        except ValueError as e:
            raise ValueError(f"bridge: {e}") from e
        if self.pools is not None and (self.ipv4_pools is not None or self.ipv6_pools is not None):
            raise ValueError("pools: names pools of both families; leave it out, or ipv4Pools and ipv6Pools")
        for key, names in (("pools", self.pools), ("ipv4Pools", self.ipv4_pools), ("ipv6Pools", self.ipv6_pools)):
            _check_pool_names(key, names or ())
        if _OURS.match(self.bridge):
            raise ValueError(f"bridge: {self.bridge} is a name that other interfaces of ours have")
        if self.subnet is not None:
            self._check_network()
        elif said := [key for key, value in self._of_a_subnet().items() if value is not None]:
            raise ValueError(f"{said[0]}: goes with `subnet`; of a network without one its pools say it")

    def _of_a_subnet(self) -> dict[str, object]:
        return {"gateway": self.gateway, "ipRange": self.ip_range, "internal": self.internal, "isolated": self.isolated}

    def _check_network(self) -> None:
        """What the pools that follow from it would be refused for, in the words of this document."""
        if self.wiring is not Wiring.BRIDGE:
            raise ValueError("subnet: a network with a subnet of its own is one link, and needs wiring bridge")
        if self.pools is not None or self.ipv4_pools is not None or self.ipv6_pools is not None:
            raise ValueError("subnet: is a pool by itself; leave out pools, ipv4Pools and ipv6Pools")
        declared = self.declared()
        assert declared is not None
        subnets = {cidr.version for cidr in declared.subnets}
        if not subnets or len(subnets) != len(declared.subnets):
            raise ValueError("subnet: takes a prefix, or one of each family")
        gateways = {gateway.version for gateway in declared.gateways}
        if len(gateways) != len(declared.gateways) or not gateways <= subnets:
            raise ValueError("gateway: takes an address of the subnet, or one of each subnet")
        ranges = {part.version for part in declared.ranges}
        if len(ranges) != len(declared.ranges) or not ranges <= subnets:
            raise ValueError("ipRange: takes a part of the subnet, or one of each subnet")
        try:
            declared.pools("node")
        except ValueError as e:
            path, _, reason = str(e).removeprefix("spec.").partition(": ")
            raise ValueError(f"{_KEYS.get(path, path)}: {reason}") from e

    def declared(self) -> Declared | None:
        """The network of this host that the configuration declares, if it does."""
        if self.subnet is None:
            return None
        return Declared(
            name=self.name,
            bridge=self.bridge,
            subnets=tuple(_parsed("subnet", self.subnet, parse_prefix)),
            gateways=tuple(_parsed("gateway", self.gateway or (), parse_address)),
            ranges=tuple(_parsed("ipRange", self.ip_range or (), parse_prefix)),
            internal=self.internal,
            isolated=self.isolated,
            masquerade=self.ip_masq,
        )

    def pools_by_family(self) -> dict[int, PoolNames]:
        """Family → names.  A family that is not in it takes any pool."""
        lists = {4: self.ipv4_pools, 6: self.ipv6_pools} if self.pools is None else {4: self.pools, 6: self.pools}
        return {family: names for family, names in lists.items() if names is not None}


class AttachmentName(_Part, frozen=True, kw_only=True):
    """A valid attachment, as GC is told of it.  It is only compared, so its characters do not matter."""

    container_id: str = msgspec.field(name="containerID")
    ifname: str


class GcConfig(Head, frozen=True, kw_only=True):
    """The key was once published as `cni.dev/attachments`; libcni sends both."""

    valid: tuple[AttachmentName, ...] | None = msgspec.field(default=None, name="cni.dev/valid-attachments")
    published: tuple[AttachmentName, ...] | None = msgspec.field(default=None, name="cni.dev/attachments")


def _check_pool_names(key: str, names: PoolNames) -> None:
    for name in names:
        try:
            check_object_name(name)
        except ValueError as e:
            raise ValueError(f"{key}: {shown(name)} is not the name of a pool") from e


def _parsed(key: str, texts: Texts, parse: Callable[[str], T]) -> Iterator[T]:
    for text in (texts,) if isinstance(texts, str) else texts:
        try:
            yield parse(text)
        except ValueError as e:
            raise ValueError(f"{key}: {str(e)[:200]}") from e


def _check_rate(direction: str, rate: int, burst: int) -> None:
    if rate and not _RATE[0] <= rate <= _RATE[1]:
        raise ValueError(
            f"{direction}Rate: {str(rate)[:80]} is out of range; {_RATE[0]} to {_RATE[1]} bits per second, or 0 for no limit"
        )
    if not 0 <= burst <= _BURST:
        raise ValueError(
            f"{direction}Burst: {str(burst)[:80]} is out of range; up to {_BURST} bits, or 0 for what suits the rate"
        )
    if burst and not rate:
        raise ValueError(f"{direction}Burst: {burst} means nothing without {direction}Rate")


def unserved(config: NetworkConfig) -> Iterator[tuple[str, object]]:
    """What is asked for and would be missing if we went on: key and value."""
    if not config.hairpin_mode:
        yield "hairpinMode", False
    if config.ip_masq and config.subnet is None:
        yield "ipMasq", True
    if config.ipam.type not in ("", "netloom"):
        yield "ipam.type", config.ipam.type
    asked = config.runtime_config or RuntimeConfig()
    limits = asked.bandwidth or RuntimeBandwidth()
    values = {
        "bandwidth.shapedSubnets": limits.shaped_subnets,
        "bandwidth.unshapedSubnets": limits.unshaped_subnets,
        "ipRanges": asked.ip_ranges,
        "aliases": asked.aliases,
        "deviceID": asked.device_id,
        "infinibandGUID": asked.infiniband_guid,
    }
    yield from ((f"runtimeConfig.{key}", value) for key, value in values.items() if value)
