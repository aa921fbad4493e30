"""Points 65 to 76 of the CNI checklist: GC takes what nobody uses, and nothing else; STATUS tells whether ADD would succeed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device_names
from tests.agent_process import Machine, Sandbox
from tests.cni_calls import CONFIG, Answer, Document, Runtime

DONE = Answer(0, b"")
LIST = "cni.dev/valid-attachments"
BLUE = CONFIG | {"name": "blue"}


class Pods:
    """Two whose sandboxes live, two whose sandboxes are gone, and one dead of another network."""

    def __init__(self, runtime: Runtime, machine: Machine, stack: ExitStack) -> None:
        self._runtime, self.results = runtime, dict[str, Document]()
        self.living = [stack.enter_context(machine.sandbox()) for _ in range(2)]
        self.dead = [machine.make_mortal() for _ in range(3)]
        for sandbox in (*self.living, *self.dead[:2]):
            self._add(sandbox, CONFIG)
        self._add(self.dead[2], BLUE)
        self._machine = machine
        for sandbox in self.dead:
            machine.remove_sandbox(sandbox)
        while self._links() & {self.results[s.container_id]["interfaces"][0]["name"] for s in self.dead}:
            time.sleep(0.01)  # the kernel takes a namespace apart some time after its last holder is gone

    def _add(self, sandbox: Sandbox, config: Document) -> None:
        answer = self._runtime("ADD", sandbox, config)
        assert answer.ok, answer
        self.results[sandbox.container_id] = answer.document

    def _links(self) -> set[str]:
        with Netlink(self._machine.netns) as kernel:
            return set(device_names(kernel).values())

    def attached(self) -> set[str]:
        """Container IDs, as the agent tells them."""
        return {a.container_id for a in self._machine.state().attachments if a.state.value == "ready"}

    def ids(self, sandboxes: list[Sandbox]) -> set[str]:
        return {sandbox.container_id for sandbox in sandboxes}


@pytest.fixture
def pods(runtime: Runtime, machine: Machine) -> Iterator[Pods]:
    with ExitStack() as stack:
        made = Pods(runtime, machine, stack)
        yield made
        for sandbox in (*made.living, *made.dead):
            for config in (CONFIG, BLUE):
                assert runtime("DEL", sandbox, config) == DONE


def listed(sandboxes: list[Sandbox], config: Document = CONFIG) -> Document:
    return config | {LIST: [{"containerID": s.container_id, "ifname": "eth0"} for s in sandboxes]}


def test_65_what_is_not_listed_and_dead_goes(either: Runtime, pods: Pods) -> None:
    """Points 66, 69, 71: its addresses, links, routes and rules too, which the check after each test proves."""
    assert either("GC", pods.living[0], listed(pods.living)) == DONE
    assert pods.attached() == pods.ids([*pods.living, pods.dead[2]])
    for sandbox in pods.living:
        assert either("CHECK", sandbox, result=pods.results[sandbox.container_id]).ok


def test_69_what_is_listed_stays_even_if_it_is_dead(runtime: Runtime, pods: Pods) -> None:
    before = pods.attached()
    assert runtime("GC", pods.living[0], listed([*pods.living, pods.dead[0]])) == DONE
    assert before - pods.attached() == {pods.dead[1].container_id}


def test_a_living_sandbox_stays_even_if_it_is_not_listed(runtime: Runtime, pods: Pods) -> None:
    """A list may be incomplete, and taking a running pod's network is worse than keeping a dead one's."""
    assert runtime("GC", pods.living[0], listed([])) == DONE
    assert pods.attached() == pods.ids([*pods.living, pods.dead[2]])


def test_70_without_a_list_only_the_dead_go(runtime: Runtime, pods: Pods) -> None:
    assert runtime("GC", pods.living[0], CONFIG) == DONE
    assert pods.attached() == pods.ids([*pods.living, pods.dead[2]])


def test_70_a_sandbox_that_only_a_descriptor_holds_is_alive(runtime: Runtime, machine: Machine) -> None:
    """No process is in it and no mount shows it; its link does."""
    sandbox = machine.make_sandbox()
    netns.take_name(sandbox.path)
    answer = runtime("ADD", sandbox, path=f"/proc/{os.getpid()}/fd/{sandbox.netns}")
    assert answer.ok
    assert runtime("GC", sandbox) == runtime("GC", sandbox, listed([])) == DONE
    assert sandbox.container_id in {a.container_id for a in machine.state().attachments}
    assert runtime("DEL", sandbox) == DONE
    os.close(sandbox.netns)


def test_65_another_network_is_left_alone(runtime: Runtime, pods: Pods) -> None:
    before = pods.attached()
    assert runtime("GC", pods.living[0], listed([], BLUE)) == DONE
    assert before - pods.attached() == {pods.dead[2].container_id}


@pytest.mark.parametrize("value", [5, {}, [5], [{"containerID": 5}]])
def test_a_list_that_is_none_collects_nothing(either: Runtime, pods: Pods, value: object) -> None:
    before = pods.attached()
    assert either("GC", pods.living[0], CONFIG | {LIST: value}).error == 7
    assert pods.attached() == before


def test_72_status_says_nothing_when_all_is_well(either: Runtime, sandbox: Sandbox) -> None:
    assert either("STATUS", sandbox) == DONE


@pytest.mark.parametrize(
    ("config", "code"),
    [
        pytest.param({"wiring": "warp"}, 7, id="14: a wiring that does not exist"),
        pytest.param({"cniVersion": "1.0.0"}, 1, id="35: before it was there"),
        pytest.param({"pools": ["nope"]}, 50, id="72: a pool that does not exist"),
        pytest.param({"pools": []}, 50, id="72: no address at all"),
        pytest.param({"ipMasq": True}, 2, id="72: a field that is not served"),
        pytest.param({"ipam": {"type": "host-local"}}, 2, id="72: somebody else's addresses"),
        pytest.param({"wiring": "bridge", "bridge": "eth0"}, 50, id="72: a bridge that is no bridge"),
    ],
)
def test_a_status_that_is_asked_wrongly_is_refused(either: Runtime, sandbox: Sandbox, config: Document, code: int) -> None:
    """As ADD would be."""
    assert either("STATUS", sandbox, CONFIG | config).error == code
    if "cniVersion" not in config:
        assert not either("ADD", sandbox, CONFIG | config).ok
