"""What is told of tunnels: sums that never fall, and not more nodes by name than anybody can look at."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from netloom.agent.tunnel_metrics import Traffic, TunnelMetrics
from netloom.tunnel.ebpf import Counters

IPIP = "loom.ipip"


class Told:
    """A scrape after another of what `now` is."""

    def __init__(self) -> None:
        self.now = Traffic()
        self._registry = CollectorRegistry()
        self._registry.register(TunnelMetrics(lambda: self.now))

    def sees(self, **sent: int) -> list[str]:
        """Packets that have gone to each node."""
        self.now = Traffic({(IPIP, name): Counters(n, 100 * n, 2 * n, 200 * n, 0, 0) for name, n in sent.items()})
        return self.lines()

    def lines(self) -> list[str]:
        return [line for line in generate_latest(self._registry).decode().splitlines() if not line.startswith("#")]


def total(lines: list[str], what: str = "packets", direction: str = "sent") -> float:
    [line] = [
        line for line in lines if line.startswith(f'netloom_tunnel_{what}_total{{device="{IPIP}",direction="{direction}"}}')
    ]
    return float(line.split()[-1])


def test_where_no_tunnel_is_nothing_is_told() -> None:
    assert Told().lines() == []


def test_each_node_and_all_together() -> None:
    lines = Told().sees(b=7, c=5)
    assert 'netloom_tunnel_peer_packets_total{device="loom.ipip",direction="sent",node="b"} 7.0' in lines
    assert 'netloom_tunnel_peer_bytes_total{device="loom.ipip",direction="received",node="c"} 1000.0' in lines
    assert (total(lines), total(lines, "bytes"), total(lines, direction="received")) == (12, 1200, 24)


def test_a_sum_keeps_what_was_counted_of_nodes_that_are_gone_or_begin_anew() -> None:
    told = Told()
    told.sees(b=7, c=5)
    assert total(told.sees(b=8)) == 13
    assert total(told.sees(b=1)) == 14
    assert total(told.sees(b=1, c=3)) == 17


def test_thousands_of_nodes_are_told_of_together() -> None:
    lines = Told().sees(**{f"n{number:04}": 1 for number in range(5000)})
    assert len(lines) < 200 * 6 + 10
    assert total(lines) == 5000


def test_an_agent_that_is_busy_tells_the_rest() -> None:
    def busy() -> Traffic:
        raise TimeoutError

    registry = CollectorRegistry()
    registry.register(TunnelMetrics(busy))
    assert generate_latest(registry) == b""
