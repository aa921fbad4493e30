"""Faults: what measurements of the ways to a node mean, in words, with what helps.  Pure.

Nothing is said of a node that does not answer at all: its agent may be away, or a firewall may have closed the port, and pods fare
well all the same.  A fault is a contrast: small packets come through and large ones do not, single ones do and streams do
not, those without checksum do and those with one do not, the underlay does and the tunnel does not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netloom.agent.probing.prober import Echo, Failure
from netloom.agent.probing.ways import UNDERLAY, Way
from netloom.model.addresses import Address
from netloom.model.host import Host


class Kind(enum.Enum):
    SIZE = "size"
    STREAM = "stream"
    CHECKSUM = "checksum"
    CLOSED = "closed"
    OTHER_NODE = "other node"
    TRANSLATED = "translated"
    ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Fault:
    """`what` is what two looks are compared by; the words may differ a little.  `largest`: as measured.  `far`: why the node is no
    neighbour, where it is none."""

    kind: Kind
    node: str
    way: Way
    words: str
    largest: int = 0
    far: str = ""

    @property
    def what(self) -> tuple[Kind, Way]:
        return self.kind, self.way


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one way.  `full`: bytes that were tried first; `largest`: the most that came through, 0 if nothing did.  `bare`: small
    packets came through without a checksum, and with one not.  `stream`: None where it was not tried, or nobody took it."""

    way: Way
    full: int
    largest: int
    echo: Echo
    bare: bool = False
    stream: Failure | None = None

    @property
    def name(self) -> str:
        return f"through {self.way.device}" if self.way.device else "over the underlay"


def faults(node: str, host: Host, measured: Sequence[Measured]) -> list[Fault]:
    return [fault for one in measured for fault in _of_one(node, host, one)] + list(_closed(node, measured))


def _of_one(node: str, host: Host, one: Measured) -> Iterator[Fault]:
    def fault(kind: Kind, words: str) -> Fault:
        return Fault(kind, node, one.way, words, one.largest)

    uplink = _uplink(host, one.way)
    if one.bare:
        off = f"ethtool -K {uplink} tx-udp_tnl-csum-segmentation off tx-udp_tnl-segmentation off"
        off = off if one.way.device else f"ethtool -K {uplink} tx off"
        words = f"packets to {node} {one.name} arrive only without a checksum: checksum offload of {uplink} is suspect; {off}"
        yield fault(Kind.CHECKSUM, words)
    if not one.largest:
        return
    if one.largest < one.full:
        words = f"packets of {one.full} bytes do not come to {node} {one.name}, {one.largest} do: "
        words += f"the path's MTU is smaller than that of {uplink}; {_smaller(host, one)}"
        yield fault(Kind.SIZE, words)
    elif one.stream is Failure.STALLED:
        features = "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off" if one.way.device else "tso off"
        words = f"TCP to {node} {one.name} stalls while single packets of {one.full} bytes pass: "
        words += f"checksum or segmentation offload of {uplink} is suspect; ethtool -K {uplink} {features}"
        yield fault(Kind.STREAM, words)
    if one.way.device == UNDERLAY:
        yield from _of_underlay(node, host, one)


def _of_underlay(node: str, host: Host, one: Measured) -> Iterator[Fault]:
    """Who answers, whom it sees, and how far it is."""
    address, echo = one.way.destination, one.echo
    if echo.node != node:
        who = "this node itself" if echo.node == host.node else f"node {echo.node}"
        words = f"{address} is the address of node {node}, and {who} answers there: two nodes have one address; "
        yield Fault(Kind.OTHER_NODE, node, one.way, words + "set nodeAddresses or ipAutodetectionMethod on one of them")
        return
    if echo.seen != one.way.source:
        words = f"node {node} sees this node as {echo.seen}, not as {one.way.source}: an address translator stands between, "
        words += "and neither plain routes nor tunnels pass one; "
        words += f"take it away, or set nodeAddresses to what {node} can reach"
        far = f"it sees this node as {echo.seen}, an address translator stands between"
        yield Fault(Kind.TRANSLATED, node, one.way, words, far=far)
    elif echo.hops > 0 and host.uplink_towards(address) is not None:
        words = f"node {node} ({address}) is no neighbour although its address says so: {echo.hops} routers stand between; "
        words += "give the nodes' addresses their true prefix lengths"
        yield Fault(Kind.ROUTER, node, one.way, words, far=f"{echo.hops} routers stand between, whatever its address says")


def _closed(node: str, measured: Sequence[Measured]) -> Iterator[Fault]:
    """The underlay carries small packets, and a tunnel not even those."""
    if not any(one.largest for one in measured if one.way.device == UNDERLAY and one.echo.node == node):
        return
    for one in measured:
        if one.way.device and not one.largest and not one.bare and one.echo.failure is Failure.SILENT:
            words = (
                f"nothing comes to {node} {one.name}, and over the underlay it does: a firewall between the nodes is suspect; "
            )
            yield Fault(Kind.CLOSED, node, one.way, words + f"docs/firewalls.md says what {one.way.device} needs")


def _uplink(host: Host, way: Way) -> str:
    address: Address | None = way.source if way.device == UNDERLAY else host.outer.ip if host.outer else None
    uplink = host.uplink_of(address) if address else None
    return uplink.name if uplink else "the uplink"


def _smaller(host: Host, one: Measured) -> str:
    if one.way.device:
        return f"set mtu: {one.largest} in FelixConfiguration default, for all nodes"
    return f"what tunnels send is cut in two on its way, or lost: ip link set {_uplink(host, one.way)} mtu {one.largest}"
