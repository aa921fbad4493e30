"""What stands in the kernel outlives the agent, is found again, and changes without a packet lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.dataplane import netns
from netloom.dataplane.bpf import Way as Direction
from netloom.dataplane.bpf import attach_early, attached, detach, early, load, pins, program_info
from netloom.dataplane.bpf.assembler import R0, XDP_PASS, Kind, Program, leave, mov, step
from netloom.dataplane.netlink import devices
from netloom.model.addresses import Mac, parse_address, parse_prefix
from netloom.model.desired import Carrier, Link, SenderKey, TunnelKey
from netloom.reconcile import Outcome
from netloom.tunnel.ebpf.wire import SHAPES
from tests.kernel.tunnel.ebpf.nodes import Agent, Way, agents, desired
from tests.kernel.tunnel.forwarder.carrying import Numbers, answered, udp_pair

UDP = Way(Carrier.UDP, 4)
Two = tuple[Agent, Agent]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with agents(UDP, tmp_path / "bpf") as (a, b):
        for agent in (a, b):
            agent.make(desired(UDP, agent.node))
        yield a, b


def programs(agent: Agent, interface: str, way: Direction) -> list[str]:
    with netns.entered(agent.node.netns):
        return [info.name for info in attached(agent.kernel, socket.if_nametoindex(interface), way)]


def test_an_agent_that_dies_leaves_all_and_its_successor_writes_nothing(two: Two) -> None:
    a, b = two
    for agent in two:
        agent.end()
    assert answered(a.node, b.node.pod_addresses[0], 56)
    for agent in two:
        agent.restart()
        assert agent.make(desired(UDP, agent.node)) == {}
    assert a.counters(UDP).sent > 0  # of before


def test_without_pins_the_successor_takes_over_with_maps_of_its_own(two: Two, tmp_path: Path) -> None:
    a, b = two
    with udp_pair(a.node, b.node, b.node.pod_addresses[0]) as sockets:
        flow = Numbers(*sockets)
        flow.start()
        for agent in two:
            flow.wait_for(50)
            agent.store.drop(UDP.device)
            agent.restart()
            changed = agent.make(desired(UDP, agent.node))
            assert changed == {"tunnels": Outcome(put=2), "senders": Outcome(put=1), "programs": Outcome(put=1)}
        flow.wait_for(50)
        flow.stop()
        assert flow.lost == set()


def test_where_no_bpffs_can_be_it_works_all_the_same(two: Two) -> None:
    a, b = two
    a.end()
    a.root = Path("/proc/nowhere")
    a.restart()
    assert a.make(desired(UDP, a.node)).keys() == {"tunnels", "senders", "programs"}
    assert a.make(desired(UDP, a.node)) == {}
    assert answered(a.node, b.node.pod_addresses[0], 56)


def test_a_peers_change_is_one_element(two: Two) -> None:
    a, _ = two
    want = desired(UDP, a.node)
    more = replace(
        want,
        tunnels={**want.tunnels, TunnelKey(UDP.device, parse_prefix("10.244.9.0/24")): parse_address("192.0.2.9")},
        senders={**want.senders, SenderKey(UDP.device, parse_address("192.0.2.9")): None},
    )
    assert a.make(more) == {"tunnels": Outcome(put=1), "senders": Outcome(put=1)}
    moved = replace(
        more, tunnels={**more.tunnels, TunnelKey(UDP.device, parse_prefix("10.244.9.0/24")): UDP.outer(a.node.other)}
    )
    assert a.make(moved) == {"tunnels": Outcome(put=1)}
    assert a.make(want) == {"tunnels": Outcome(deleted=1), "senders": Outcome(deleted=1)}


def tunnel_of(agent: Agent, **changes: object) -> dict[str, Link]:
    [tunnel] = desired(UDP, agent.node).links.values()
    return {UDP.device: replace(tunnel, **changes)}  # type: ignore[arg-type]  # the test's own


def test_another_mtu_loses_nothing(two: Two) -> None:
    a, b = two
    with udp_pair(a.node, b.node, b.node.pod_addresses[1]) as sockets:
        flow = Numbers(*sockets)
        flow.start()
        flow.wait_for(50)
        changed = a.make(replace(desired(UDP, a.node), links=tunnel_of(a, mtu=1400)))
        assert changed == {"links": Outcome(put=1)}
        flow.wait_for(50)
        flow.stop()
        assert flow.lost == set()


def test_another_mac_is_another_device(two: Two) -> None:
    """An ifb keeps its MAC for life."""
    a, b = two
    a.make(replace(desired(UDP, a.node), links=tunnel_of(a, mac=Mac("66:00:00:00:00:77"))))
    assert "66:00:00:00:00:77" in a.run(f"ip link show {UDP.device}")
    assert answered(b.node, a.node.pod_addresses[0], 56)


@pytest.mark.parametrize(
    ("mutation", "table"),
    [
        ("ip link set loom.udp down", "links"),
        ("ip link set loom.udp mtu 1300", "links"),
        ("ip link set loom.udp arp on", "links"),
    ],
)
def test_what_somebody_changed_is_put_right(two: Two, mutation: str, table: str) -> None:
    a, b = two
    a.run(mutation)
    assert table in a.make(desired(UDP, a.node))
    assert a.make(desired(UDP, a.node)) == {}
    assert answered(a.node, b.node.pod_addresses[0], 56)


@pytest.mark.parametrize(("interface", "way"), [("loom.udp", Direction.LEAVING), ("up0", Direction.ARRIVING)])
def test_a_program_that_somebody_detached_is_attached_again(two: Two, interface: str, way: Direction) -> None:
    a, b = two
    with netns.entered(a.node.netns):
        [name] = programs(a, interface, way)
        detach(a.kernel, socket.if_nametoindex(interface), way, name)
    assert a.make(desired(UDP, a.node)) == {"programs": Outcome(put=1)}
    assert answered(a.node, b.node.pod_addresses[0], 56)


def test_a_device_that_somebody_took_away_is_made_again(two: Two) -> None:
    a, b = two
    a.run(f"ip link del {UDP.device}")
    a.make(desired(UDP, a.node))
    assert answered(a.node, b.node.pod_addresses[0], 56)
    assert answered(b.node, a.node.pod_addresses[1], 56)


def test_an_uplink_that_comes_later_is_taken_in(two: Two) -> None:
    a, _ = two
    want = desired(UDP, a.node)
    two_uplinks = replace(want, links=tunnel_of(a, uplinks=("up0", "up1")))
    assert a.make(two_uplinks) == {}
    a.run("ip link add up1 type veth peer name far1")
    assert a.make(two_uplinks) == {"programs": Outcome(put=1)}
    assert programs(a, "up1", Direction.ARRIVING) == ["loom.udp.in"]
    assert a.make(want) == {"programs": Outcome(put=1)}
    assert programs(a, "up1", Direction.ARRIVING) == []


def test_datagrams_are_unpacked_in_the_driver_where_it_can(two: Two) -> None:
    a, b = two
    [uplink] = [link for link in devices(a.kernel) if link.name == "up0"]
    assert uplink.xdp
    a.run("ip link set up0 xdp off")
    assert answered(b.node, a.node.pod_addresses[0], 1400)  # by the other program
    assert a.make(desired(UDP, a.node)) == {"programs": Outcome(put=1)}
    assert answered(b.node, a.node.pod_addresses[1], 1400)
    a.restart()
    a.make(replace(desired(UDP, a.node), links={}, addresses={}, sysctls={}, routes={}, tunnels={}, senders={}))
    [uplink] = [link for link in devices(a.kernel) if link.name == "up0"]
    assert not uplink.xdp


def test_datagrams_are_left_to_tc_where_that_is_wished(two: Two) -> None:
    a, b = two
    want = desired(UDP, a.node)
    without = replace(want, links=tunnel_of(a, early=False))
    assert a.make(without) == {"programs": Outcome(put=1)}
    [uplink] = [link for link in devices(a.kernel) if link.name == "up0"]
    assert not uplink.xdp
    assert answered(b.node, a.node.pod_addresses[0], 1400)
    assert a.make(without) == {}
    a.restart()
    assert a.make(without) == {}
    assert a.make(want) == {"programs": Outcome(put=1)}


def test_a_driver_with_anothers_program_is_left_alone(two: Two) -> None:
    a, b = two
    a.run("ip link set up0 xdp off")
    other = Program("other", Kind.XDP, (step("on", mov(R0, XDP_PASS), leave()),))
    with netns.entered(a.node.netns), load(other) as program:
        index = socket.if_nametoindex("up0")
        assert attach_early(a.kernel, index, program)
        number = program_info(program.fd).number
    assert a.make(desired(UDP, a.node)) == {}
    assert answered(b.node, a.node.pod_addresses[0], 1400)
    have = early(a.kernel, index)
    assert have is not None and have.number == number


def test_a_driver_that_cannot_is_asked_once(tmp_path: Path) -> None:
    """A veth whose other end has a large MTU runs no program."""
    with agents(UDP, tmp_path / "large") as (a, b):
        b.run("ip link set up0 mtu 9000")
        for agent in (a, b):
            agent.make(desired(UDP, agent.node))
        assert a.make(desired(UDP, a.node)) == {}
        [uplink] = [link for link in devices(a.kernel) if link.name == "up0"]
        assert not uplink.xdp
        assert answered(b.node, a.node.pod_addresses[0], 1400)


def test_another_engine_or_none_leaves_nothing_behind(two: Two, tmp_path: Path) -> None:
    a, _ = two
    a.restart()  # and even a new agent knows where to look
    nothing = replace(desired(UDP, a.node), links={}, addresses={}, sysctls={}, routes={}, tunnels={}, senders={})
    assert a.make(nothing)["programs"] == Outcome(deleted=1)
    assert programs(a, "up0", Direction.ARRIVING) == []
    assert a.store.devices() == set()
    assert UDP.device not in a.run("ip link")
    assert a.make(nothing) == {}


def test_what_a_node_that_is_gone_had_pinned_is_taken_away(two: Two, tmp_path: Path) -> None:
    a, _ = two
    gone, new = (a.root / "netloom" / number for number in ("7", "8"))
    for folder in (gone, new):
        pins.pinned(folder / "loom:udp", "peers", SHAPES["peers"]).close()
    os.utime(gone, (0, 0))
    before = {path.name for path in (a.root / "netloom").iterdir()}
    a.make(replace(desired(UDP, a.node), links={}, addresses={}, sysctls={}, routes={}, tunnels={}, senders={}))
    a.restart()
    a.make(desired(UDP, a.node))
    assert {path.name for path in (a.root / "netloom").iterdir()} == before - {"7"}


def test_two_tunnels_stand_side_by_side(two: Two) -> None:
    """While a cluster goes from one form to another."""
    a, b = two
    ipip = Way(Carrier.IPIP, 4)
    for agent in two:
        udp, other = desired(UDP, agent.node), desired(ipip, agent.node)
        both = replace(
            other,
            links={**udp.links, **other.links},
            addresses={**udp.addresses, **other.addresses},
            tunnels={**udp.tunnels, **other.tunnels},
            senders={**udp.senders, **other.senders},
        )
        agent.make(both)
        assert sorted(programs(agent, "up0", Direction.ARRIVING)) == ["loom.ipip.in", "loom.udp.in"]
    assert answered(a.node, b.node.pod_addresses[0], 56)
    assert a.counters(ipip).sent > 0
    assert pins.is_bpffs(a.root)
