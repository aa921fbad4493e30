"""A cluster whose datastore is begun anew, and put back again: no packet is lost, and every node is there again by itself."""

from __future__ import annotations

import os
from contextlib import closing

from netloom.datastore import connect
from netloom.lab.cluster import Lab, datastore_of
from netloom.lab.topology import one_switch
from netloom.model.resources import IPPool
from tests.lab.conftest import Raise, settled
from tests.lab.test_etcd import state
from tests.lab.test_restarts import in_lab
from tests.waiting import eventually

SIDECARS = ("-wal", "-shm", "-bell")


def names(lab: Lab, kind: str) -> list[str]:
    with closing(connect(datastore_of(lab.topology.name))) as store:
        return list(store.keys(kind))


def pools(lab: Lab) -> list[IPPool]:
    with closing(connect(datastore_of(lab.topology.name))) as store:
        return [s.resource for s in store.list("IPPool").items if isinstance(s.resource, IPPool)]


def take_away(path: str, other: str) -> None:
    """The database first: nobody opens it without its log."""
    _rename(path, other, ("", *SIDECARS))


def put_back(other: str, path: str) -> None:
    """And last."""
    _rename(other, path, (*SIDECARS, ""))


def _rename(path: str, other: str, ends: tuple[str, ...]) -> None:
    for end in ends:
        if os.path.exists(path + end):
            os.rename(path + end, other + end)


def test_no_packet_is_lost_when_the_datastore_is_begun_anew_and_put_back(bring_up: Raise) -> None:
    lab = bring_up(one_switch(nodes=4, pods=4))
    assert settled(lab)
    path = datastore_of(lab.topology.name).removeprefix("sqlite:")
    nodes, blocks, declared = names(lab, "Node"), names(lab, "IPBlock"), pools(lab)
    assert len(nodes) == 4 and len(blocks) >= 4
    with lab.places() as places, in_lab(lab, "pod-0", "pod-3", places) as traffic:
        take_away(path, f"{path}.first")
        traffic.go_on()
        with closing(connect(f"sqlite:{path}.new")) as fresh:
            for pool in declared:
                fresh.create(pool)
        put_back(f"{path}.new", path)
        eventually(lambda: names(lab, "Node") == nodes and names(lab, "IPBlock") == blocks)
        eventually(lambda: len(names(lab, "Endpoint")) == 4)
        traffic.go_on()
        take_away(path, f"{path}.second")
        put_back(f"{path}.first", path)
        traffic.go_on()
        eventually(lambda: all(all_is_well(lab)))
    assert traffic.lost == []
    assert settled(lab)


def all_is_well(lab: Lab) -> list[bool]:
    """Of each node: it is connected and holds nothing that the datastore lacks."""
    states = [state(lab, node.name) for node in lab.topology.nodes]
    return [one.datastore.connected and one.ready and not one.held for one in states]
