from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest

from netloom.agent.bgp_metrics import BgpMetrics
from netloom.agent.routing import View
from netloom.bgp.status import Channel, Peer
from tests.bgp_configs import MESH

UP = Peer("mesh_node_b", "Established", channels={4: Channel(True, 12, 0, 3), 6: Channel()})


def shown(view: View) -> Mapping[str, str]:
    registry = CollectorRegistry()
    registry.register(BgpMetrics(lambda: view))
    lines = generate_latest(registry).decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_a_node_without_bgp_has_none() -> None:
    assert shown(View()) == {}


def test_sessions_and_their_routes() -> None:
    found = shown(View(config=MESH, since=1.0, changes=4, peers={UP.name: UP}))
    assert found == {
        "netloom_bird_up": "1.0",
        "netloom_bird_refused": "0.0",
        "netloom_bird_changes": "4.0",
        'netloom_bgp_sessions{state="Established"}': "1.0",
        'netloom_bgp_sessions{state="absent"}': "1.0",
        'netloom_bgp_peer_up{peer="mesh_node_b"}': "1.0",
        'netloom_bgp_peer_up{peer="mesh_node_c"}': "0.0",
        'netloom_bgp_peer_routes{direction="in",family="ipv4",peer="mesh_node_b"}': "12.0",
        'netloom_bgp_peer_routes{direction="out",family="ipv4",peer="mesh_node_b"}': "3.0",
        'netloom_bgp_peer_routes{direction="in",family="ipv6",peer="mesh_node_b"}': "0.0",
        'netloom_bgp_peer_routes{direction="out",family="ipv6",peer="mesh_node_b"}': "0.0",
    }


def test_thousands_of_sessions_are_counted_and_the_first_of_them_named() -> None:
    sessions = tuple(replace(MESH.sessions[0], name=f"mesh_{n:04}") for n in range(2000))
    found = shown(View(config=replace(MESH, sessions=sessions), since=1.0))
    assert found['netloom_bgp_sessions{state="absent"}'] == "2000.0"
    assert sum(key.startswith("netloom_bgp_peer_up") for key in found) == 500


def test_a_bird_that_is_away() -> None:
    found = shown(View(config=MESH, since=1.0, away="it stands still", refused="no"))
    assert (found["netloom_bird_up"], found["netloom_bird_refused"]) == ("0.0", "1.0")
