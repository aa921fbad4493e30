"""Attachments: which sandbox on this node holds which interface and addresses.  This node's journal is their authority.

PENDING   intent is journalled; the kernel may hold none, some or all of it
READY     everything is in place and answered
LEAVING   DEL came; what is left is being taken away
(gone)    the addresses cool down before they are given out again
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from netloom.model.addresses import Address, Interface, Mac
from netloom.model.showing import shown


class AttachmentKey(NamedTuple):
    """The only identity of an attachment.  The pod's name is an attribute: a sandbox made anew has the same one."""

    network: str
    container_id: str
    interface: str


class NetnsId(NamedTuple):
    """Identity of a network namespace: device and inode of its nsfs file.  Paths and PIDs are used again; this is not while it lives."""

    device: int
    inode: int

    def __str__(self) -> str:
        return f"{self.device}:{self.inode}"


class Wiring(enum.Enum):
    ROUTED = "routed"
    BRIDGE = "bridge"


class State(enum.Enum):
    PENDING = "pending"
    READY = "ready"
    LEAVING = "leaving"


class PublishedPort(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A port of the host that leads to the pod's.  `host_address` None: every address that the host has; 0.0.0.0 or ::, every one
    of that family."""

    protocol: str
    host_port: int
    container_port: int
    host_address: Address | None = None

    def __str__(self) -> str:
        """As `docker run -p` has it."""
        where = f"[{self.host_address}]" if self.host_address and self.host_address.version == 6 else self.host_address
        return f"{f'{where}:' if where else ''}{self.host_port}:{self.container_port}/{self.protocol}"


class OwnNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool of a CNI network that has its own said at ADD (model.resources.IPPoolSpec)."""

    internal: bool = False
    isolated: bool = True


class Bandwidth(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod may have: bits per second, and bits at once beyond that; 0 is no limit.  `ingress` is what it receives."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """`sequence` grows with every ADD on this node: a pass never removes what is newer than its input, a release that names
    an older sequence does nothing.  `addresses` carry the prefix length that the pod's interface shows.  `own_network` None: they
    are the cluster's.  `secondary`: families in which the pod had a default route before, by another interface.  `mtu_given`: it was asked for,
    and stays."""

    key: AttachmentKey
    sequence: int
    state: State
    netns: NetnsId
    host_interface: str
    mac: Mac
    host_mac: Mac
    mtu: int
    addresses: tuple[Interface, ...]
    wiring: Wiring = Wiring.ROUTED
    bridge: str | None = None
    gateways: tuple[Address, ...] = ()
    namespace: str = "default"
    pod: str = ""
    labels: Mapping[str, str] = {}
    own_network: OwnNetwork | None = None
    ports: tuple[PublishedPort, ...] = ()
    bandwidth: Bandwidth | None = None
    secondary: tuple[int, ...] = ()
    mtu_given: bool = False

    @property
    def alias(self) -> str:
        return link_alias(self)

    @property
    def leads_out(self) -> bool:
        """Whether the pod has a default route by it."""
        return self.own_network is None or not self.own_network.internal


PREFIX = "loom"
"""Every interface of ours starts with this; the kernel's rules close it for whatever is not known yet."""


def host_interface_name(key: AttachmentKey) -> str:
    """`loom` and 11 hex digits, 15 in all: unique per attachment, and the same whenever it is asked for."""
    return PREFIX + hashlib.sha1("\0".join(key).encode(), usedforsecurity=False).hexdigest()[:11]


def ifb_name(host_interface: str) -> str:
    """Of the device that what the pod sends passes: `loomq` and the first 10 of the 11 digits, so never a host interface's name."""
    return f"{PREFIX}q{host_interface.removeprefix(PREFIX)[:10]}"


_LIMIT = re.compile(r"(in|out)=([1-9][0-9]{0,15})/([0-9]{1,11})")
ALIAS_LIMIT = 255  # IFALIASZ (linux/if.h) counts the final NUL


def link_alias(attachment: Attachment) -> str:
    """`netloom NETWORK CONTAINER IFNAME ADDRESS... [in=RATE/BURST] [out=RATE/BURST]`: enough to rebuild the attachment when the
    journal is lost."""
    limits = bandwidth_words(attachment.bandwidth) if attachment.bandwidth else ()
    return " ".join(("netloom", *attachment.key, *(str(a) for a in attachment.addresses), *limits))


class LinkOwner(NamedTuple):
    """What a link's alias says."""

    key: AttachmentKey
    addresses: tuple[Interface, ...]
    bandwidth: Bandwidth | None


def parse_alias(alias: str) -> LinkOwner | None:
    """Of `link_alias`; None for what says something else.  Anybody may have written it."""
    first, *words = alias.split(" ")
    if first != "netloom" or len(words) <= len(AttachmentKey._fields):
        return None
    key, rest = AttachmentKey(*words[:3]), words[3:]
    try:
        addresses = tuple(ipaddress.ip_interface(word) for word in rest if "=" not in word)
        return LinkOwner(key, addresses, parse_bandwidth(word for word in rest if "=" in word)) if addresses else None
    except ValueError:
        return None


def bandwidth_words(bandwidth: Bandwidth) -> tuple[str, ...]:
    both = ("in", bandwidth.ingress_rate, bandwidth.ingress_burst), ("out", bandwidth.egress_rate, bandwidth.egress_burst)
    return tuple(f"{way}={rate}/{burst}" for way, rate, burst in both if rate)


def parse_bandwidth(words: Iterable[str]) -> Bandwidth | None:
    """Of `bandwidth_words`; ValueError for what it does not say."""
    found = {"in": (0, 0), "out": (0, 0)}
    for word in words:
        match = _LIMIT.fullmatch(word)
        if match is None:
            raise ValueError(f"{shown(word)} is no limit")
        found[match[1]] = int(match[2]), int(match[3])
    (ingress_rate, ingress_burst), (egress_rate, egress_burst) = found.values()
    if not ingress_rate and not egress_rate:
        return None
    return Bandwidth(ingress_rate=ingress_rate, ingress_burst=ingress_burst, egress_rate=egress_rate, egress_burst=egress_burst)
