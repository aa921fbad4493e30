"""BGPPeer: who peers (all nodes, `node`, `nodeSelector`) with whom (`peerIP`, or nodes by `peerSelector`): Calico's fields by Calico's
names, and what Calico lacks (`bfd`, `holdTime`, `prefixLimit`, `gracefulRestart`, `families`).

A peer checks its own values; whether filters, secrets and nodes that it names are there is asked by bgp_admission.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from netloom.model.addresses import Address
from netloom.model.bgp_session import BFD_OR_RESTART, MAX_HOLD, MAX_RESTART, MIN_HOLD, BfdSpec, BGPPassword
from netloom.model.bgp_values import AsNumber, Duration, check_peer_address, check_seconds, parse_peer
from netloom.model.objects import Resource, Spec
from netloom.model.routing import NextHop
from netloom.model.selectors import parse_selector
from netloom.model.validation import check_object_name, within

_USUAL_HOLD = 240  # seconds: BIRD's
_FILTERS = 32


class SourceAddress(enum.Enum):
    """What a session is made from: the node's own address, or whichever the kernel chooses."""

    USE_NODE_IP = "UseNodeIP"
    NONE = "None"


class ReversePeering(enum.Enum):
    """Whether a node that `peerSelector` chooses peers back without being told."""

    AUTO = "Auto"
    MANUAL = "Manual"


class Family(enum.Enum):
    IPV4 = "IPv4"
    IPV6 = "IPv6"

    @property
    def version(self) -> int:
        return 4 if self is Family.IPV4 else 6


class BGPPeerSpec(Spec, frozen=True, kw_only=True):
    """`families`: whose routes the session carries; unless said, those of the peer's address."""

    node: str = ""
    node_selector: str = ""
    peer_ip: str = msgspec.field(default="", name="peerIP")
    peer_selector: str = ""
    as_number: AsNumber | None = None
    local_as_number: AsNumber | None = msgspec.field(default=None, name="localASNumber")
    next_hop_mode: NextHop = NextHop.AUTO
    password: BGPPassword | None = None
    source_address: SourceAddress = SourceAddress.USE_NODE_IP
    max_restart_time: Duration | None = None
    keepalive_time: Duration | None = None
    hold_time: Duration | None = None
    num_allowed_local_as_numbers: int = msgspec.field(default=0, name="numAllowedLocalASNumbers")
    ttl_security: int = 0
    reachable_by: Address | None = None
    filters: tuple[str, ...] = ()
    reverse_peering: ReversePeering = ReversePeering.AUTO
    bfd: BfdSpec | None = None
    graceful_restart: bool | None = None
    prefix_limit: int | None = None
    families: tuple[Family, ...] = ()

    def __post_init__(self) -> None:
        self._check_whose()
        if self.peer_selector:
            self._check_nodes()
        else:
            self._check_outside()
        self._check_times()
        for field, number, most in (
            ("numAllowedLocalASNumbers", self.num_allowed_local_as_numbers, 255),
            ("ttlSecurity", self.ttl_security, 254),
            ("prefixLimit", self.prefix_limit or 0, (1 << 32) - 1),
        ):
            if not 0 <= number <= most:
                raise ValueError(f"spec.{field}: {number} is out of range; 0 to {most}")
        if len(self.filters) > _FILTERS:
            raise ValueError(f"spec.filters: {len(self.filters)} are too many; {_FILTERS} at most")
        for i, name in enumerate(self.filters):
            check_object_name(name, f"spec.filters[{i}]")
            if name in self.filters[:i]:
                raise ValueError(f"spec.filters[{i}]: {name} is here twice")
        if len(set(self.families)) != len(self.families):
            raise ValueError("spec.families: each once")

    def _check_whose(self) -> None:
        if self.node:
            check_object_name(self.node, "spec.node")
            if self.node_selector:
                raise ValueError("spec.nodeSelector: one of node and nodeSelector; neither means all nodes")
        for field, text in (("nodeSelector", self.node_selector), ("peerSelector", self.peer_selector)):
            within(f"spec.{field}", parse_selector, text)

    def _check_nodes(self) -> None:
        for field, value in (("peerIP", self.peer_ip), ("asNumber", self.as_number), ("reachableBy", self.reachable_by)):
            if value:
                raise ValueError(f"spec.{field}: peerSelector chooses nodes, which say that themselves")

    def _check_outside(self) -> None:
        if not self.peer_ip:
            raise ValueError("spec.peerIP: is missing; one of peerIP and peerSelector says who the peer is")
        address, _ = within("spec.peerIP", parse_peer, self.peer_ip)
        if self.as_number is None:
            raise ValueError("spec.asNumber: is missing; which AS is the peer in?")
        if self.reachable_by is not None:
            within("spec.reachableBy", check_peer_address, self.reachable_by)
            if self.reachable_by.version != address.version or self.reachable_by == address:
                raise ValueError(f"spec.reachableBy: {self.reachable_by} is no gateway to {address}")
        if self.reverse_peering is not ReversePeering.AUTO:
            raise ValueError("spec.reversePeering: belongs to peerSelector; nobody tells a peer outside what to do")

    def _check_times(self) -> None:
        hold = check_seconds(self.hold_time, MIN_HOLD, MAX_HOLD, "spec.holdTime")
        keepalive = check_seconds(self.keepalive_time, 1, MAX_HOLD // 3, "spec.keepaliveTime")
        check_seconds(self.max_restart_time, 0, MAX_RESTART, "spec.maxRestartTime")
        if keepalive >= (hold or _USUAL_HOLD):
            said = self.hold_time if hold else "which is 4m unless it is said"
            raise ValueError(f"spec.keepaliveTime: {self.keepalive_time} is no less than holdTime, {said}")
        if self.bfd is not None and (self.graceful_restart or self.max_restart_time is not None):
            field = "gracefulRestart" if self.graceful_restart else "maxRestartTime"
            raise ValueError(f"spec.bfd: {BFD_OR_RESTART}, so it does not go with {field}")
        if self.graceful_restart is False and self.max_restart_time is not None:
            raise ValueError("spec.maxRestartTime: says how long a graceful restart takes, and gracefulRestart is false")

    @property
    def peer(self) -> tuple[Address, int] | None:
        """Address and port of the peer, 0 where none is said; None: nodes, by `peer_selector`."""
        return parse_peer(self.peer_ip) if self.peer_ip else None


class BGPPeer(Resource, frozen=True, kw_only=True, tag="BGPPeer"):
    PLURAL = "bgppeers"
    spec: BGPPeerSpec

    def is_for(self, node: str, labels: Mapping[str, str]) -> bool:
        """Whether that node has this peering."""
        return node == self.spec.node if self.spec.node else parse_selector(self.spec.node_selector)(labels)
