"""A cluster goes from one form to another while its pods talk: nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from netloom.datastore import Datastore, connect
from netloom.lab.cluster import Lab
from netloom.lab.record import folder
from netloom.lab.topology import one_switch
from netloom.model.forms import Form, Method, parse_form
from netloom.model.resources import Encapsulation, FelixConfiguration, FelixConfigurationSpec, IPPool, Metadata, Node
from tests.lab.conftest import Raise, settled
from tests.lab.streams import Streams

PATIENCE = 30.0
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
def streams(lab: Lab, *, rate: int = 1000, flows: int = 10) -> Iterator[Streams]:
    """Round the pods: each sends to the next one."""
    with lab.places() as places:
        pods = [place for place in places if place.name.startswith("pod")]
        with Streams(list(zip(pods, [*pods[1:], pods[0]], strict=True)), rate=rate, flows=flows) as found:
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
