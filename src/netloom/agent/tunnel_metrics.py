"""Metrics of tunnels: what went to other nodes and came from them, as programs in the kernel and forwarders have counted it.

Each tunnel has its sums, whatever the cluster's size.  The first couple of hundred nodes, by name, have series of their own, so that a
cluster of thousands does not drown who scrapes it.  A sum never falls: what was counted of a node that is gone stays in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from netloom.errors import DataplaneError
from netloom.model.addresses import Address, parse_address
from netloom.model.desired import Desired, Engine, Tunnel
from netloom.model.snapshot import Snapshot
from netloom.tunnel.ebpf import Counters, Store
from netloom.tunnel.forwarder.messages import State

K = TypeVar("K")

_MOST = 200  # nodes with series of their own
_NOTHING = Counters(0, 0, 0, 0, 0, 0)
_PACKETS, _BYTES = ("sent", "received", "refused", "lost"), ("sent_bytes", "received_bytes")


@dataclass(frozen=True, slots=True)
class Traffic:
    """`peers`: by device and node, or its address where no node has that.  `lost`: of a forwarder, by device and reason."""

    peers: Mapping[tuple[str, str], Counters] = field(default_factory=dict)
    lost: Mapping[tuple[str, str], int] = field(default_factory=dict)


def traffic(desired: Desired, snapshot: Snapshot, store: Store, forwarders: Iterable[State]) -> Traffic:
    """As it is counted now.  For the loop: thousands of nodes take some milliseconds."""
    names: dict[Address, str] = {}
    for name, node in snapshot.nodes.items():
        names |= dict.fromkeys((*node.spec.former, *(address.ip for address in node.spec.addresses)), name)
    found: dict[tuple[str, str], Counters] = defaultdict(lambda: _NOTHING)
    for device, link in desired.links.items():
        if isinstance(link, Tunnel) and link.engine is Engine.EBPF:
            with suppress(DataplaneError):  # it changes faster than it can be read, or is just being made
                for address, counters in store.counters(device):
                    _add(found, (device, names.get(address, str(address))), counters)
    lost: dict[tuple[str, str], int] = {}
    for state in forwarders:
        lost |= {(state.device, reason): count for reason, count in state.lost.items()}
        for peer in state.peers:
            counters = Counters(peer.sent, peer.sent_bytes, peer.received, peer.received_bytes, 0, 0)
            _add(found, (state.device, names.get(parse_address(peer.address), peer.address)), counters)
    return Traffic(dict(found), lost)


class TunnelMetrics(Collector):
    """For any thread.  `look` may raise TimeoutError: then nothing is told of tunnels."""

    def __init__(self, look: Callable[[], Traffic]) -> None:
        self._look = look
        self._last: Mapping[tuple[str, str], Counters] = {}
        self._gone: dict[str, Counters] = defaultdict(lambda: _NOTHING)

    def collect(self) -> Iterator[CounterMetricFamily]:
        try:
            seen = self._look()
        except TimeoutError:
            return
        sums = self._sums(seen.peers)
        yield from _families("netloom_tunnel", "Through a tunnel", ["device"], {(device,): n for device, n in sums.items()})
        names = set(sorted({node for _, node in seen.peers})[:_MOST])
        single: dict[tuple[str, ...], Counters] = {key: counters for key, counters in seen.peers.items() if key[1] in names}
        yield from _families("netloom_tunnel_peer", "To and from a node through a tunnel", ["device", "node"], single)
        lost = CounterMetricFamily(
            "netloom_forwarder_lost_packets", "Packets that got nowhere, by reason", labels=["device", "reason"]
        )
        for labels, count in sorted(seen.lost.items()):
            lost.add_metric(labels, count)
        if seen.lost:
            yield lost

    def _sums(self, now: Mapping[tuple[str, str], Counters]) -> Mapping[str, Counters]:
        for (device, node), before in self._last.items():
            if any(a < b for a, b in zip(now.get((device, node), _NOTHING), before, strict=True)):  # gone, or begun anew
                _add(self._gone, device, before)
        self._last = now
        found = defaultdict(lambda: _NOTHING, self._gone)
        for (device, _), counters in now.items():
            _add(found, device, counters)
        return found


def _families(
    name: str, words: str, labels: list[str], found: Mapping[tuple[str, ...], Counters]
) -> Iterator[CounterMetricFamily]:
    for what, fields in (("packets", _PACKETS), ("bytes", _BYTES)):
        family = CounterMetricFamily(f"{name}_{what}", f"{words}, {what} by direction", labels=[*labels, "direction"])
        for values, counters in sorted(found.items()):
            for one in fields:
                family.add_metric([*values, one.removesuffix("_bytes")], getattr(counters, one))
        if found:
            yield family


def _add(found: dict[K, Counters], key: K, counters: Counters) -> None:
    found[key] = Counters(*map(sum, zip(found[key], counters, strict=True)))
