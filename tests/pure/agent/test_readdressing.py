"""A node that gets another address while it has the old one, step by step: what it tells, and what its packets leave with."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from netloom.agent.readdressing import Readdressing
from netloom.model.host import Host, Uplink
from netloom.model.resources import Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot

OLD, NEW, NEWER = (ipaddress.ip_interface(f"192.0.2.{n}/24") for n in (1, 21, 31))
OLD6, NEW6 = (ipaddress.ip_interface(f"2001:db8::{n}/64") for n in (1, 21))


def host(*chosen: ipaddress.IPv4Interface | ipaddress.IPv6Interface, held: object = (OLD, NEW)) -> Host:
    assert isinstance(held, tuple)
    return Host("a", "id-a", addresses=chosen, uplinks={"eth0": Uplink("eth0", 1500, held)})


def shown(seen: Host, *addresses: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> Snapshot:
    spec = NodeSpec(id="id-a", addresses=addresses, former=seen.former)
    return Snapshot.of(1, [Node(metadata=Metadata(name="a"), spec=spec)])


def test_who_keeps_its_address_leaves_with_it() -> None:
    steps = Readdressing()
    seen = steps.host(Snapshot(), host(OLD), 0.0)
    assert (seen.former, seen.outer) == ((), OLD)
    seen = steps.host(shown(seen, OLD), host(OLD), 1.0)
    assert (seen.former, seen.outer, steps.due(seen, 1.0)) == ((), OLD, None)


def test_a_host_that_is_not_on_its_way_is_the_very_same_until_something_is_another() -> None:
    steps, plain = Readdressing(), host(OLD)
    cluster = shown(plain, OLD)
    seen = steps.host(cluster, plain, 0.0)
    assert steps.host(cluster, plain, 1.0) is seen
    assert steps.host(cluster, host(NEW), 2.0).former == (OLD.ip,)
    assert steps.host(shown(plain, NEW), plain, 3.0) is not seen


def test_another_address_is_told_first_and_used_when_others_have_had_time_to_hear_of_it() -> None:
    steps = Readdressing()
    now = steps.host(shown(host(), OLD), host(OLD), 0.0)
    now = steps.host(shown(now, OLD), host(NEW), 10.0)
    assert (now.former, now.outer, steps.due(now, 10.0)) == ((OLD.ip,), OLD, None)
    now = steps.host(shown(now, NEW), host(NEW), 11.0)
    assert (now.former, now.outer, steps.due(now, 11.0)) == ((OLD.ip,), OLD, 3.0)
    now = steps.host(shown(now, NEW), host(NEW), 14.0)
    assert (now.former, now.outer, steps.due(now, 14.0)) == ((OLD.ip,), NEW, None)
    now = steps.host(shown(now, NEW), host(NEW, held=(NEW,)), 20.0)
    assert (now.former, now.outer) == ((), NEW)


def test_an_old_address_that_is_gone_is_not_waited_for() -> None:
    steps = Readdressing()
    now = steps.host(shown(host(), OLD), host(OLD), 0.0)
    now = steps.host(shown(now, OLD), host(NEW, held=(NEW,)), 10.0)
    assert (now.former, now.outer) == ((), NEW)


def test_an_agent_that_starts_in_the_middle_of_it_goes_on() -> None:
    spec = NodeSpec(id="id-a", addresses=(NEW,), former=(OLD.ip,))
    snapshot = Snapshot.of(1, [Node(metadata=Metadata(name="a"), spec=spec)])
    now = Readdressing().host(snapshot, host(NEW), 0.0)
    assert (now.former, now.outer) == ((OLD.ip,), NEW)
    told_nobody = Readdressing().host(shown(host(), OLD), host(NEW), 0.0)
    assert (told_nobody.former, told_nobody.outer) == ((OLD.ip,), OLD)


def test_each_family_goes_its_own_way() -> None:
    held = (OLD, NEW, OLD6, NEW6)
    steps = Readdressing()
    now = steps.host(shown(host(), OLD, OLD6), host(OLD, OLD6, held=held), 0.0)
    now = steps.host(shown(now, OLD, OLD6), host(OLD, NEW6, held=held), 1.0)
    assert (now.former, now.outer) == ((OLD6.ip,), OLD)
    v6 = Readdressing()
    now = v6.host(shown(host(), OLD6), host(OLD6, held=held), 0.0)
    now = v6.host(shown(now, OLD6), host(NEW6, held=held), 1.0)
    assert (now.former, now.outer) == ((OLD6.ip,), OLD6)


def test_who_changes_its_mind_keeps_what_it_leaves_with() -> None:
    held = (OLD, NEW, NEWER)
    steps = Readdressing()
    now = steps.host(shown(host(), OLD), host(OLD, held=held), 0.0)
    now = steps.host(shown(now, NEW), host(NEW, held=held), 1.0)
    now = steps.host(shown(now, NEW), host(NEWER, held=held), 2.0)
    assert (now.former, now.outer) == ((OLD.ip,), OLD)
    now = steps.host(shown(now, OLD), host(OLD, held=held), 3.0)
    assert now.outer == OLD


def test_the_rest_of_the_machine_is_as_it_was() -> None:
    before = host(OLD)
    assert replace(Readdressing().host(Snapshot(), before, 0.0), former=(), source=None) == before
