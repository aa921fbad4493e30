"""A cluster that goes from one form to another while anything happens in any order: passes, writes that land late, news that come late,
agents that die and start again, new nodes, and people who change their minds.  No time passes: that nothing is lost is a matter of order
alone.

Whatever a node sends to another one, it sends in a form that the other's kernel takes in at that very moment; and as long as such a
form leads there, there is a route.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest

from netloom.agent.moving import Moving
from netloom.calc import desired, forms
from netloom.calc.forms import Word
from netloom.model.addresses import Mac, Prefix
from netloom.model.desired import Tunnel, Vxlan
from netloom.model.forms import Form, Method, Use
from netloom.model.host import Host, Uplink
from netloom.model.host import Moving as Facts
from netloom.model.resources import (
    AnyResource,
    Claim,
    Encapsulation,
    FelixConfiguration,
    FelixConfigurationSpec,
    IPBlock,
    IPBlockSpec,
    IPPool,
    IPPoolSpec,
    Metadata,
    Node,
    NodeSpec,
    block_name,
)
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import LONG

NUMBERS = (FelixConfigurationSpec(), FelixConfigurationSpec(vxlan_vni=1, vxlan_port=8472, udp_port=900))
CLASHING = (FelixConfigurationSpec(udp_port=4789), FelixConfigurationSpec(udp_port=8472))
"""Ports that VXLAN has, or had."""
MOST = 4  # nodes


def pool(encapsulation: Encapsulation) -> IPPool:
    spec = IPPoolSpec(cidr=ipaddress.ip_network("10.244.0.0/16"), encapsulation=encapsulation)
    return IPPool(metadata=Metadata(name="default"), spec=spec)


def numbers(spec: FelixConfigurationSpec) -> FelixConfiguration:
    return FelixConfiguration(metadata=Metadata(name="default"), spec=spec)


def block(number: int) -> IPBlock:
    slot = ipaddress.ip_network(f"10.244.{number}.0/26")
    claim = Claim(cidr=slot, node=f"node{number}", node_id=f"id{number}")
    return IPBlock(metadata=Metadata(name=block_name(slot)), spec=IPBlockSpec(cidr=slot, claims=(claim,)))


@functools.cache
def host(number: int) -> Host:
    own = ipaddress.ip_interface(f"192.0.2.{10 + number}/24")
    return Host(
        node=f"node{number}",
        node_id=f"id{number}",
        addresses=(own,),
        uplinks={"eth0": Uplink("eth0", 1500, (own,), default=True)},
        vtep_mac=Mac(f"66:00:00:00:00:0{number}"),
        blocks=(ipaddress.ip_network(f"10.244.{number}.0/26"),),
        tunnel_addresses=(ipaddress.ip_address(f"10.244.{number}.0"),),
        mtu=1500,
    )


@functools.cache
def read(number: int, devices: tuple[tuple[str, Form], ...], far: tuple[tuple[str, str], ...]) -> Host:
    """The very same one, as an agent has it, where nothing is new."""
    return replace(host(number), moving=Facts(dict(devices)), far=dict(far))


@dataclass
class Machine:
    """A node.  `devices` and `ways` are its kernel's, which outlive its agent.  `seen`: how much of the log its agent has read;
    `remembered`: how much of it the next agent will begin with.  `far`: nodes that plain routes do not lead to.  `uses` and `passed`:
    how its agent sends, and what its probes have come through in.  `cut`: nodes that its last pass left no route to, for nothing.  `begun`: it has seen
    what it told."""

    number: int
    agent: Moving | None = None
    devices: dict[str, Form] = field(default_factory=dict)
    ways: dict[str, Form] = field(default_factory=dict)
    seen: int = 0
    remembered: int = 0
    complete: bool = False
    writing: Node | None = None
    published: bool = False
    reached: set[str] = field(default_factory=set)
    now: Host | None = None
    far: dict[str, str] = field(default_factory=dict)
    uses: Mapping[tuple[str, str], Use] = field(default_factory=dict)
    passed: set[tuple[str, Form]] = field(default_factory=set)
    cut: list[str] = field(default_factory=list)
    begun: bool = False

    @property
    def name(self) -> str:
        return f"node{self.number}"

    def takes_in(self, form: Form) -> bool:
        return form == forms.DIRECT or form in self.devices.values()


class Cluster:
    def __init__(self, nodes: int) -> None:
        self.log: list[AnyResource] = [pool(Encapsulation.VXLAN)]
        self.snapshots = [Snapshot()]
        self.machines: list[Machine] = []
        for _ in range(nodes):
            self.join()

    def join(self) -> None:
        number = len(self.machines) + 1
        self.log.append(block(number))
        self.machines.append(Machine(number, Moving(grace=0.0), seen=len(self.log), complete=True))

    def snapshot(self, machine: Machine) -> Snapshot:
        while len(self.snapshots) <= len(self.log):
            last = self.log[len(self.snapshots) - 1]
            self.snapshots.append(self.snapshots[-1].updated(len(self.snapshots), [(last.kind, last.key, last)]))
        return replace(self.snapshots[machine.seen], complete=machine.complete)

    def apply(self, resource: AnyResource) -> None:
        self.log.append(resource)

    def make_pass(self, machine: Machine, *, killed: bool = False) -> None:
        """`killed`: after the devices, before anything is sent another way."""
        assert machine.agent is not None
        snapshot = self.snapshot(machine)
        here = read(machine.number, tuple(machine.devices.items()), tuple(machine.far.items()))
        here = machine.agent.host(snapshot, here, 0.0)
        here = replace(here, moving=replace(here.moving, untried=_untried(machine, snapshot, here)))
        wanted = desired(snapshot, [], here)
        tunnels = {name: _form(link) for name, link in wanted.links.items() if isinstance(link, Vxlan | Tunnel)}
        machine.devices = tunnels if machine.complete else machine.devices | tunnels
        for one, other in itertools.combinations(machine.devices.values(), 2):
            assert one.method is other.method or one.port != other.port, "a kernel gives a datagram to one of two tunnels"
        if killed:
            self.kill(machine)
            return
        routed = {key.prefix for key in wanted.routes}
        uses = {name: use.form for (name, _), use in wanted.uses.items() if use.form is not None}
        ways = {name: form for name, form in uses.items() if _slot(name) in routed}
        machine.passed &= {(name, form) for (name, _), use in wanted.uses.items() for form in use[:2]}
        machine.uses, machine.cut = wanted.uses, [name for name in _led_to(snapshot, here) if name not in ways]
        machine.ways = ways if machine.complete else ways | machine.ways
        machine.begun = machine.begun or forms.own_word(snapshot, here) is not None
        if machine.complete:
            machine.agent.passed(snapshot, here, wanted, {})
            machine.now = here

    def begin_write(self, machine: Machine) -> None:
        if machine.agent is None or machine.now is None or machine.writing is not None:
            return
        word = machine.agent.word(self.snapshot(machine), machine.now)
        machine.agent.writes(word)
        machine.writing = _node(machine.number, word)

    def land(self, machine: Machine) -> None:
        """The write, if it is one: what is there already is not written."""
        latest = {node.name: node for node in self.log if isinstance(node, Node)}
        if machine.writing is not None and machine.writing != latest.get(machine.name):
            self.log.append(machine.writing)
            machine.published = True
        machine.writing = None

    def probe(self, machine: Machine) -> None:
        """Packets in the next form come to whoever takes it in."""
        if machine.agent is not None:
            living = {other.name: other for other in self.machines if other.agent is not None}
            following = {(name, use.next) for (name, _), use in machine.uses.items() if use.next is not None}
            machine.passed |= {(name, form) for name, form in following if name in living and living[name].takes_in(form)}

    def move(self, machine: Machine, name: str) -> None:
        """A router comes between, or goes."""
        if machine.far.pop(name, None) is None:
            machine.far[name] = "a router stands between"

    def kill(self, machine: Machine) -> None:
        """What it was writing was written, or never will be."""
        self.land(machine)
        machine.agent, machine.now, machine.uses, machine.passed = None, None, {}, set()

    def start(self, machine: Machine) -> None:
        machine.agent, machine.seen, machine.complete = Moving(grace=0.0), machine.remembered, False
        self.make_pass(machine)

    def see(self, machine: Machine, news: int) -> None:
        if machine.complete:
            machine.seen = min(len(self.log), machine.seen + news)
        else:  # it lists, and sees all
            machine.seen, machine.complete = len(self.log), True

    def turn(self, machine: Machine) -> None:
        self.see(machine, len(self.log))
        self.make_pass(machine)
        self.begin_write(machine)
        self.land(machine)
        self.probe(machine)

    def round(self) -> None:
        """Everybody who lives does everything."""
        for machine in self.machines:
            if machine.agent is not None:
                self.turn(machine)

    def wanted(self) -> frozenset[Form]:
        return frozenset(forms.wanted_of_all(Snapshot.of(1, self.log), host(1)))

    def lost(self) -> list[str]:
        """Who has reached another node, and sends what it does not take in.  Who has never told anything, or does not know yet that
        it has, has no pods yet."""
        told = {machine.name: machine for machine in self.machines if machine.published}
        found = []
        for machine in filter(lambda machine: machine.begun, told.values()):
            found += [f"{machine.name} has no route to {name}" for name in machine.cut if name in told]
            for name, form in machine.ways.items():
                if name in told and told[name].takes_in(form):
                    machine.reached.add(name)
                elif name in machine.reached:
                    there = ", ".join(map(str, told[name].devices.values()))
                    found.append(f"{machine.name} sends {form} to {name}, which takes in {there}")
        return found


def _form(link: Vxlan | Tunnel) -> Form:
    if isinstance(link, Vxlan):
        return Form(Method.VXLAN, link.vni, link.port)
    return Form(Method(link.carrier.value.upper()), port=link.port)


def _slot(name: str) -> Prefix:
    return ipaddress.ip_network(f"10.244.{name.removeprefix('node')}.0/26")


def _untried(machine: Machine, snapshot: Snapshot, here: Host) -> frozenset[tuple[str, Form]]:
    """As the agent's trials have it."""
    used = {(name, use.form) for (name, _), use in machine.uses.items() if use.form is not None}
    return frozenset({(name, form) for name, _ in used for form in forms.opened(snapshot, here)} - used - machine.passed)


def _led_to(snapshot: Snapshot, here: Host) -> Iterator[str]:
    """Nodes to which a form leads that both ends have told of."""
    own = forms.own_word(snapshot, here)
    sends = {*forms.parsed(own.sends)} - here.moving.leaving if own else set()
    for name, node in snapshot.nodes.items():
        if name != here.node and any(
            f in sends and (f != forms.DIRECT or name not in here.far) for f in forms.parsed(node.spec.receives)
        ):
            yield name


def _node(number: int, word: Word) -> Node:
    here = host(number)
    spec = NodeSpec(
        id=here.node_id,
        addresses=here.addresses,
        tunnel_addresses=here.tunnel_addresses,
        vtep_mac=here.vtep_mac,
        receives=word.receives,
        sends=word.sends,
        generation=word.generation,
    )
    return Node(metadata=Metadata(name=here.node), spec=spec)


def walk(chance: random.Random, steps: int) -> Iterator[Cluster]:
    """Anything that may happen, one after the other; then everybody who lives comes to rest."""
    cluster = Cluster(chance.choice((2, 2, 3)))
    liked = chance.sample(list(Encapsulation), 2)
    for _ in range(3):
        cluster.round()
    for _ in range(steps):
        machine, dice = chance.choice(cluster.machines), chance.random()
        if dice < 0.06:
            cluster.apply(pool(chance.choice(liked)))
        elif dice < 0.07:
            cluster.apply(numbers(chance.choice((*NUMBERS, *CLASHING))))
        elif dice < 0.075 and len(cluster.machines) < MOST:
            cluster.join()
        elif machine.agent is None:
            if chance.random() < 0.4:
                cluster.start(machine)
        elif dice < 0.3:
            cluster.see(machine, chance.choice((1, 1, 2, 9)))
        elif dice < 0.6:
            cluster.make_pass(machine)
        elif dice < 0.75:
            cluster.begin_write(machine)
        elif dice < 0.9:
            cluster.land(machine)
        elif dice < 0.95:
            cluster.turn(machine)
        elif dice < 0.97:
            machine.remembered = machine.seen if machine.complete else machine.remembered
        elif dice < 0.975:
            cluster.probe(machine)
        elif dice < 0.985:
            cluster.move(machine, chance.choice(cluster.machines).name)
        elif dice < 0.99:
            cluster.make_pass(machine, killed=True) if chance.random() < 0.5 else cluster.kill(machine)
        yield cluster
    if numbers(CLASHING[0]) in cluster.log or numbers(CLASHING[1]) in cluster.log:
        cluster.apply(numbers(NUMBERS[0]))
    for machine in cluster.machines:
        machine.far = {} if cluster.wanted() == {forms.DIRECT} else machine.far
    for _ in range(12):
        cluster.round()
        yield cluster


@pytest.mark.parametrize("first", range(0, 2000 if LONG else 100, 10))
def test_nothing_is_lost_whatever_happens_and_in_the_end_the_living_send_what_is_wanted(first: int) -> None:
    for seed in range(first, first + 10):
        for step, cluster in enumerate(walk(random.Random(seed), 120)):
            assert cluster.lost() == [], f"seed {seed}, step {step}"
        wanted, living = cluster.wanted(), {m.name for m in cluster.machines if m.agent is not None}
        for machine in cluster.machines:
            if machine.agent is None:
                continue
            assert {form for name, form in machine.ways.items() if name in living} <= wanted, f"seed {seed}"
            if len(living) == len(cluster.machines):
                assert set(machine.devices.values()) == wanted - {forms.DIRECT}, f"seed {seed}"


def test_a_node_that_is_no_neighbour_any_more_is_tunnelled_to_before_a_probe_has_come_back() -> None:
    cluster = Cluster(2)
    cluster.apply(pool(Encapsulation.VXLAN_CROSS_SUBNET))
    for _ in range(6):
        cluster.round()
    machine, tunnel = cluster.machines[0], Form(Method.VXLAN, 4096, 4789)
    assert machine.ways == {"node2": forms.DIRECT}
    cluster.move(machine, "node2")
    cluster.make_pass(machine)
    assert machine.now is not None
    assert ("node2", tunnel) in machine.now.moving.untried
    assert machine.ways == {"node2": tunnel}
    assert cluster.lost() == []


def test_who_has_nothing_under_way_gives_the_very_same_answer_until_it_writes() -> None:
    cluster = Cluster(2)
    for _ in range(6):
        cluster.round()
    machine = cluster.machines[0]
    assert machine.agent is not None
    snapshot, here = cluster.snapshot(machine), read(machine.number, tuple(machine.devices.items()), ())
    seen = machine.agent.host(snapshot, here, 0.0)
    assert machine.agent.host(replace(snapshot, revision=99), here, 0.0) is seen
    word = machine.agent.word(snapshot, seen)
    machine.agent.writes(Word((*word.receives, "IPIP"), word.sends, word.generation + 1))
    assert Form(Method.IPIP) in machine.agent.host(snapshot, here, 0.0).moving.held
