"""A cluster goes from one form to another while its pods talk: nothing is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from netloom.dataplane import netns
from netloom.datastore import Datastore, connect
from netloom.lab.cluster import Lab
from netloom.lab.record import folder
from netloom.lab.topology import one_switch
from netloom.model.forms import Form, Method, parse_form
from netloom.model.resources import Encapsulation, FelixConfiguration, FelixConfigurationSpec, IPPool, Metadata, Node
from tests.lab.conftest import Raise, settled
from tests.lab.streams import Streams
from tests.pure.ipam.making import LONG

PATIENCE = 60.0
CALICO, FLANNEL = Form(Method.VXLAN, 4096, 4789), Form(Method.VXLAN, 1, 8472)
DIRECT = Form(Method.NONE)


class Change:
    """What people apply to a running lab, and how far its nodes are."""

    def __init__(self, datastore: Datastore) -> None:
        self._datastore = datastore

    def encapsulation(self, encapsulation: Encapsulation) -> None:
        for stored in self._datastore.list("IPPool").items:
            pool = stored.resource
            assert isinstance(pool, IPPool)
            spec = msgspec.structs.replace(pool.spec, encapsulation=encapsulation)
            self._datastore.update(msgspec.structs.replace(pool, spec=spec), stored.revision)

    def numbers(self, **numbers: int) -> None:
        resource = FelixConfiguration(metadata=Metadata(name=FelixConfiguration.NAME), spec=FelixConfigurationSpec(**numbers))
        stored = self._datastore.get("FelixConfiguration", FelixConfiguration.NAME)
        if stored is None:
            self._datastore.create(resource)
        else:
            self._datastore.update(resource, stored.revision)

    def delete(self, node: str) -> None:
        self._datastore.delete("Node", node)

    def nodes(self) -> list[Node]:
        return [stored.resource for stored in self._datastore.list("Node").items if isinstance(stored.resource, Node)]

    def is_done(self, *forms: Form) -> bool:
        """Nobody receives or sends anything else any more."""
        return all(
            {*map(parse_form, node.spec.receives)} == {*map(parse_form, node.spec.sends)} == set(forms) for node in self.nodes()
        )

    def wait_until_all_send(self, *forms: Form) -> None:
        eventually(lambda: self.is_done(*forms), lambda: "\n".join(f"{n.name} {n.spec}" for n in self.nodes()))


def eventually(condition: Callable[[], bool], shown: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.05)


@contextmanager
def changing(lab: Lab) -> Iterator[Change]:
    datastore = connect(f"sqlite:{folder(lab.name, 'datastore.db')}")
    try:
        yield Change(datastore)
    finally:
        datastore.close()


@contextmanager
def streams(lab: Lab, *, rate: int = 1000, flows: int = 10, pods: Collection[str] = ()) -> Iterator[Streams]:
    """Round the pods, or some of them: each sends to the next one."""
    with lab.places() as places:
        chosen = [place for place in places if place.name in (pods or {pod.name for pod in lab.topology.pods})]
        with Streams(list(zip(chosen, [*chosen[1:], chosen[0]], strict=True)), rate=rate, flows=flows) as found:
            yield found


def test_vxlan_and_plain_routes_take_turns_and_vxlan_gets_other_numbers(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=3, pods=3))
    assert settled(lab)
    with changing(lab) as change, streams(lab) as sent:
        change.wait_until_all_send(CALICO)
        change.encapsulation(Encapsulation.NONE)
        change.wait_until_all_send(DIRECT)
        change.encapsulation(Encapsulation.VXLAN)
        change.wait_until_all_send(CALICO)
        change.numbers(vxlan_vni=1, vxlan_port=8472)
        change.wait_until_all_send(FLANNEL)
        change.encapsulation(Encapsulation.VXLAN_CROSS_SUBNET)
        change.wait_until_all_send(DIRECT, FLANNEL)
        change.encapsulation(Encapsulation.VXLAN)
        change.wait_until_all_send(FLANNEL)
    assert "\n".join(sent.lost) == ""
    assert settled(lab)


EVERY_PAIR = (*["None", "VXLAN", "IPIP", "UDP", "None", "IPIP", "VXLAN", "UDP", "IPIP", "None", "UDP", "VXLAN", "None"],)
"""A walk that takes each way from one to another once."""


DEVICES = {"None": "eth0", "VXLAN": "loom.vxlan", "IPIP": "loom.ipip", "UDP": "loom.udp"}


def ways(lab: Lab) -> list[str]:
    """Devices of the first node's routes to others' pods."""
    with lab.namespace(lab.topology.nodes[0].name) as namespace, netns.entered(namespace):
        shown = [
            subprocess.run(["ip", *family, "route"], capture_output=True, text=True, check=True) for family in ((), ("-6",))
        ]
    routes = [line.split() for one in shown for line in one.stdout.splitlines()]
    return [words[words.index("dev") + 1] for words in routes if "via" in words and words[0] != "default"]


def form(method: str) -> Form:
    return {"VXLAN": CALICO, "UDP": Form(Method.UDP, port=8285)}.get(method) or Form(Method(method))


def test_each_encapsulation_becomes_each_other_one(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert settled(lab)
    with changing(lab) as change, streams(lab) as sent:
        for method in EVERY_PAIR:
            change.encapsulation(Encapsulation(method))
            change.wait_until_all_send(form(method))
            assert all(device == DEVICES[method] for device in ways(lab)), ways(lab)
    assert "\n".join(sent.lost) == ""
    assert settled(lab)


MANY_TIMES = [("IPIP", "VXLAN"), ("UDP", "IPIP"), ("None", "UDP"), ("VXLAN", "None")]
"""Each is left and come to."""


def pod_mtus(lab: Lab) -> set[int]:
    """Of both ends of every pod's interface."""
    found = set()
    for pod in lab.topology.pods:
        for name, wanted in ((pod.name, "eth0"), (pod.node, "loom")):
            with lab.namespace(name) as namespace, netns.entered(namespace):
                shown = subprocess.run(["ip", "-o", "link", "show", "type", "veth"], capture_output=True, text=True, check=True)
            for line in shown.stdout.splitlines():
                words = line.split()
                if words[1].startswith(wanted) and (name == pod.name or not words[1].startswith("eth0")):
                    found.add(int(words[words.index("mtu") + 1]))
    return found


def test_pods_get_what_fits_before_anybody_sends_less_and_when_nobody_does_any_more(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=3, pods=3, encapsulation=Encapsulation.NONE))
    assert settled(lab)
    with changing(lab) as change, streams(lab) as sent:
        for method, mtu in (("VXLAN", 1450), ("UDP", 1472), ("None", 1500), ("IPIP", 1480), ("VXLAN", 1450), ("None", 1500)):
            change.encapsulation(Encapsulation(method))
            change.wait_until_all_send(form(method))
            eventually(lambda mtu=mtu: pod_mtus(lab) == {mtu}, lambda: str(pod_mtus(lab)))
        change.numbers(mtu=1400)
        eventually(lambda: pod_mtus(lab) == {1400}, lambda: str(pod_mtus(lab)))
    assert "\n".join(sent.lost) == ""
    assert settled(lab)


@pytest.mark.parametrize("turns", MANY_TIMES if LONG else MANY_TIMES[:1], ids="-".join)
def test_two_forms_take_turns_many_times(bring_up: Raise, turns: tuple[str, str]) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert settled(lab)
    with changing(lab) as change, streams(lab, rate=5000 if LONG else 1000, flows=50) as sent:
        for _ in range(100 if LONG else 10):
            for method in turns:
                change.encapsulation(Encapsulation(method))
                change.wait_until_all_send(form(method))
    assert "\n".join(sent.lost) == ""


def test_people_who_change_their_minds_at_any_moment_lose_nothing(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=3, pods=3))
    assert settled(lab)
    chance = random.Random(4)
    with changing(lab) as change, streams(lab) as sent:
        for _ in range(15):
            method = chance.choice(list(DEVICES))
            change.encapsulation(Encapsulation(method))
            time.sleep(chance.random() / 4)
        change.wait_until_all_send(form(method))
    assert "\n".join(sent.lost) == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_agents_end_in_the_middle_of_it(bring_up: Raise, number: signal.Signals) -> None:
    """Those who are gone hold up nobody but themselves; back again they go on where they were."""
    lab = bring_up(one_switch(nodes=3, pods=3))
    assert settled(lab)
    chance = random.Random(5)
    with changing(lab) as change, streams(lab) as sent:
        for i, method in enumerate(("IPIP", "None", "VXLAN", "UDP", "VXLAN")):
            change.encapsulation(Encapsulation(method))
            node = lab.topology.nodes[i % 3]
            time.sleep(chance.random() / 3)
            lab.stop_agent(node.name, number)
            lab.start_agents((node,))
            change.wait_until_all_send(form(method))
    assert "\n".join(sent.lost) == ""
    assert settled(lab)


def test_a_dead_agent_is_sent_what_it_receives_and_the_others_move(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=3, pods=3))
    assert settled(lab)
    dead = lab.topology.nodes[2]
    with changing(lab) as change, streams(lab) as sent:
        lab.stop_agent(dead.name, signal.SIGKILL)
        change.encapsulation(Encapsulation.IPIP)
        eventually(lambda: sorted(ways(lab)) == [*["loom.ipip"] * 2, *["loom.vxlan"] * 2], lambda: str(ways(lab)))
        lab.start_agents((dead,))
        change.wait_until_all_send(form("IPIP"))
    assert "\n".join(sent.lost) == ""
    assert settled(lab)


def test_nodes_go_and_come_while_the_others_move(bring_up: Raise) -> None:
    """What a dead node may send is received until people delete it; one that joins half way sends what it finds."""
    lab = bring_up(one_switch(nodes=3, pods=3))
    assert settled(lab)
    gone = lab.topology.nodes[2]
    with changing(lab) as change, streams(lab, pods=("pod-0", "pod-1")) as sent:
        lab.stop_agent(gone.name, signal.SIGKILL)
        change.encapsulation(Encapsulation.IPIP)
        eventually(lambda: "loom.ipip" in ways(lab), lambda: str(ways(lab)))
        change.delete(gone.name)
        change.wait_until_all_send(form("IPIP"))
        change.encapsulation(Encapsulation.UDP)
        lab.start_agents((gone,))
        eventually(lambda: len(change.nodes()) == 3, lambda: str(change.nodes()))
        change.wait_until_all_send(form("UDP"))
    assert "\n".join(sent.lost) == ""
    assert settled(lab)


def test_a_form_that_does_not_come_through_is_not_sent_and_the_way_back_is_free(bring_up: Raise) -> None:
    """Something between the nodes lets the new port not pass."""
    lab = bring_up(one_switch(nodes=2, pods=2))
    assert settled(lab)
    with changing(lab) as change, streams(lab) as sent:
        inside(lab, "node-1", "nft add table inet others")
        inside(lab, "node-1", "nft add chain inet others early { type filter hook prerouting priority -400; }")
        inside(lab, "node-1", "nft add rule inet others early udp dport 8472 drop")
        change.numbers(vxlan_vni=1, vxlan_port=8472)
        eventually(lambda: "does not come to node-1" in waits(lab, "node-0"), lambda: waits(lab, "node-0"))
        assert set(ways(lab)) == {"loom.vxlan"}
        change.numbers()
        change.wait_until_all_send(CALICO)
        change.numbers(vxlan_vni=1, vxlan_port=8472)
        eventually(lambda: "does not come to node-1" in waits(lab, "node-0"), lambda: waits(lab, "node-0"))
        inside(lab, "node-1", "nft delete table inet others")
        change.wait_until_all_send(FLANNEL)
    assert "\n".join(sent.lost) == ""


def test_another_udp_port_is_another_device_whose_name_outlives_the_agent(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=2, pods=2, encapsulation=Encapsulation.UDP))
    assert settled(lab)
    with changing(lab) as change, streams(lab) as sent:
        change.wait_until_all_send(form("UDP"))
        lab.stop_agent("node-1", signal.SIGKILL)
        change.numbers(udp_port=9000)
        eventually(lambda: "loom.udp2" in inside(lab, "node-0", "ip -br link"), lambda: inside(lab, "node-0", "ip -br link"))
        lab.stop_agent("node-0", signal.SIGKILL)
        lab.start_agents(lab.topology.nodes)
        change.wait_until_all_send(Form(Method.UDP, port=9000))
        assert set(ways(lab)) == {"loom.udp2"}
    assert "\n".join(sent.lost) == ""


def inside(lab: Lab, place: str, command: str) -> str:
    with lab.namespace(place) as namespace, netns.entered(namespace):
        return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


def waits(lab: Lab, node: str) -> str:
    """Why its routes to other nodes are not as pools want them."""
    command = [sys.executable, "-m", "netloom", "lab", "exec", "--lab", lab.name, node, "--", sys.executable, "-m", "netloom"]
    shown = subprocess.run([*command, "get", "routes", "-o", "wide"], capture_output=True, text=True, check=False)
    return shown.stdout + shown.stderr
