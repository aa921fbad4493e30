"""The journal is lost or damaged: it is made anew from what the kernel holds, and nobody notices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from netloom.agent.state import AttachmentState
from tests.agent_process import HASTY, running_machine
from tests.cni_calls import CONFIG, KUBERNETES, NATIVE, Answer, Document, call
from tests.kernel.agent.conftest import BRIDGED, Place, place_of
from tests.residue import baseline, differences, residue
from tests.waiting import eventually

PODS: dict[str, Document] = {"routed": CONFIG, "bridged": BRIDGED}
LABELS = {"args": {"cni": {"labels": [{"key": "app", "value": "web"}]}}}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with running_machine(command=HASTY) as machine, place_of(machine) as made:
        for name in PODS:
            made.pods[name] = machine.make_sandbox(name)
        yield made


@pytest.fixture(autouse=True)
def results(place: Place) -> Iterator[dict[str, Document]]:
    """Both pods, made anew for each test, and gone afterwards."""
    found = {}
    for name in PODS:
        answer = command(place, "ADD", name)
        assert answer.ok
        found[name] = answer.document
        [place.links[name]] = [
            i["name"] for i in answer.document["interfaces"] if i["name"].startswith("loom") and "." not in i["name"]
        ]
    eventually(lambda: len(place.store.list("Endpoint").items) == 2)
    yield found
    for name in PODS:
        assert command(place, "DEL", name).ok
    eventually(lambda: not place.store.list("Endpoint").items)


def command(place: Place, what: str, name: str, result: Document | None = None) -> Answer:
    sandbox, config = place.pods[name], {**PODS.get(name, CONFIG), **LABELS}
    if result:
        config["prevResult"] = result
    args = KUBERNETES.replace("web-0", f"web-{name}")
    return call(NATIVE, what, place.machine.run_dir, sandbox.container_id, sandbox.path, config, args=args)


def attachments(place: Place) -> dict[str, AttachmentState]:
    return {a.container_id: a for a in place.machine.state().attachments}


def deleted(journal: str) -> None:
    os.unlink(journal)


def emptied(journal: str) -> None:
    os.truncate(journal, 0)


def scribbled_over(journal: str) -> None:
    with open(journal, "r+b") as file:
        file.seek(os.path.getsize(journal) // 2)
        file.write(b"\0\xff nonsense")


def of_another_namespace(journal: str) -> None:
    with open(journal, "rb") as file:
        first, _, rest = file.read().partition(b"\n")
    with open(journal, "wb") as file:
        file.write(first[:8] + b" {}\n" + rest)


@pytest.mark.parametrize("what", [deleted, emptied, scribbled_over, of_another_namespace])
def test_what_the_kernel_holds_is_taken_up_as_it_was(
    place: Place, results: dict[str, Document], what: Callable[[str], None]
) -> None:
    kernel = place.quiet_residue()
    before = attachments(place)
    published = place.store.list("Endpoint").items
    place.machine.end()
    what(f"{place.machine.run_dir}/journal")
    place.machine.start()
    assert attachments(place) == before
    eventually(lambda: differences(kernel, place.residue()) == [])
    for name, result in results.items():
        answer = command(place, "CHECK", name, result)
        assert answer.ok, answer
    assert place.store.list("Endpoint").items == published
    assert "made anew from the kernel's links: 2 attachments" in place.machine.log()


def test_addresses_in_use_are_not_given_out_again(place: Place) -> None:
    used = {address for a in attachments(place).values() for address in a.addresses}
    place.machine.end()
    deleted(f"{place.machine.run_dir}/journal")
    place.machine.start()
    for number in range(6):
        answer = place.add(f"more-{number}")
        assert answer.ok
        assert not used & {str(a) for a in answer.addresses}
    for number in range(6):
        assert place.delete(f"more-{number}").ok


def test_an_attachment_is_known_without_its_neighbour_entries(place: Place, results: dict[str, Document]) -> None:
    before = attachments(place)
    place.machine.end()
    deleted(f"{place.machine.run_dir}/journal")
    place.run("ip neighbour flush nud permanent")
    place.machine.start()
    assert attachments(place) == before
    for name, result in results.items():
        assert command(place, "CHECK", name, result).ok


def test_a_sandbox_that_dies_after_the_rebuilding_is_collected(place: Place) -> None:
    before = baseline(place.machine)
    assert place.add("dying", mortal=True).ok
    place.machine.end()
    deleted(f"{place.machine.run_dir}/journal")
    place.machine.start()
    place.machine.remove_sandbox(place.pods.pop("dying"))
    eventually(lambda: "dying" not in attachments(place))
    eventually(lambda: not [line for line in differences(before, residue(place.machine)) if "journal.damaged" not in line])
