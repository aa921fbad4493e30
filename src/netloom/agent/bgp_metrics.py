"""Metrics of BGP: what was seen of BIRD at the last look, in Prometheus' form.  Nothing at all on a node without BGP.

Sessions are counted by state; those of the first few hundred, by name, have series of their own, so that a mesh of thousands does not
drown who scrapes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from netloom.agent.routing import View

_MOST = 500  # sessions with series of their own


class BgpMetrics(Collector):
    """For any thread."""

    def __init__(self, view: Callable[[], View]) -> None:
        self._view = view

    def collect(self) -> Iterator[GaugeMetricFamily]:
        view = self._view()
        if not view.used:
            return
        yield GaugeMetricFamily("netloom_bird_up", "1 while BIRD answers", value=not view.away)
        yield GaugeMetricFamily(
            "netloom_bird_refused", "1 while BIRD does not have what is wanted of it", value=bool(view.refused)
        )
        yield GaugeMetricFamily("netloom_bird_changes", "Configurations that BIRD took from this agent", value=view.changes)
        config = view.config
        names = sorted(session.name for session in config.sessions) if config else []
        peers = {name: view.peers[name] for name in names if name in view.peers}
        states = GaugeMetricFamily("netloom_bgp_sessions", "BGP sessions by state", labels=["state"])
        for state, count in sorted(Counter(peers[name].state if name in peers else "absent" for name in names).items()):
            states.add_metric([state], count)
        yield states
        up = GaugeMetricFamily("netloom_bgp_peer_up", "1 while the session is established", labels=["peer"])
        routes = GaugeMetricFamily("netloom_bgp_peer_routes", "Routes of a session", labels=["peer", "family", "direction"])
        for name in names[:_MOST]:
            up.add_metric([name], name in peers and peers[name].established)
            for family, channel in peers[name].channels.items() if name in peers else ():
                routes.add_metric([name, f"ipv{family}", "in"], channel.imported)
                routes.add_metric([name, f"ipv{family}", "out"], channel.exported)
        yield up
        yield routes
