"""Answering: where others ask this agent how it is and what it has, and the one door where they tell it something.

ADDRESS:PORT           /livez, /readyz, /metrics                       health, metrics
RUN_DIR/netloom.sock   its state, BIRD's sessions and routes           health, bgp_state
RUN_DIR/control.sock   commands                                        control
"""

from __future__ import annotations

from collections.abc import Callable

from netloom.agent.bgp_metrics import BgpMetrics
from netloom.agent.bgp_state import BGP_PATH, BIRD_ROUTES_PATH, CONFIG_PATH, Pages
from netloom.agent.control import Control, Request
from netloom.agent.health import Health
from netloom.agent.metrics import Metrics
from netloom.agent.routing import Routing
from netloom.agent.standing import Standing
from netloom.agent.tunnel_metrics import TunnelMetrics
from netloom.config import Settings


class Answering:
    """`release`: what `netloom system brake release` asks for."""

    def __init__(
        self,
        settings: Settings,
        standing: Standing,
        routing: Routing,
        metrics: Metrics,
        release: Callable[[Request], tuple[str, ...]],
    ) -> None:
        self._settings = settings
        metrics.also(BgpMetrics(lambda: routing.view))
        metrics.also(TunnelMetrics(standing.traffic))
        pages = Pages(settings.node_name, routing)
        queried = {BGP_PATH: pages.sessions, CONFIG_PATH: pages.config, BIRD_ROUTES_PATH: pages.routes}
        self._health = Health(standing.unready, standing.state, metrics.text, queried=queried)
        self._control = Control(settings.run_dir, {"release-brake": release})

    def open_address(self) -> None:
        """Before anything else: who asks is told why nothing is served yet."""
        if self._settings.health_address:
            self._health.serve_address(self._settings.health_address)

    async def open_sockets(self) -> None:
        self._health.serve_socket(self._settings.api_socket)
        await self._control.start()

    def turn(self) -> None:
        """Called by the loop, every few seconds."""
        self._health.turn()

    def stop(self) -> None:
        self._health.stop()
        self._control.stop()
