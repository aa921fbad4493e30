"""A lost journal: what the kernel's links say of the pods, whatever else has been done to them."""

from __future__ import annotations

import subprocess

import msgspec
import pytest

from netloom.agent.rebuilding import attachments_of
from netloom.dataplane.netlink import Netlink
from netloom.model.addresses import Mac
from netloom.model.attachments import Attachment, NetnsId, State, Wiring
from tests.kernel.cni.test_wiring import attach, attachment, kernel

__all__ = ["kernel"]  # the fixture

PORT = {Wiring.ROUTED: "{link}", Wiring.BRIDGE: "loom.br0"}
DAMAGE = {
    "nothing": "true",
    "its neighbour entries are gone": "ip neigh flush dev {port} nud permanent",
    "somebody on another link answers for it": "ip neigh add {address} lladdr 02:00:00:00:00:99 dev other0 nud permanent",
    "somebody claims its address as learned": "ip neigh replace {address} lladdr 02:00:00:00:00:99 dev other0 nud reachable",
}


def found_again(one: Attachment) -> Attachment:
    return msgspec.structs.replace(one, state=State.READY, sequence=0, netns=NetnsId(0, 0))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", list(Wiring))
def test_a_pod_is_found_by_its_link(kernel: Netlink, pod: int, kind: Wiring, damage: str) -> None:
    one = attach(kernel, attachment(2, kind), pod)
    subprocess.run(["ip", "link", "add", "other0", "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", "other0", "up"], check=True)
    port = PORT[kind].format(link=one.host_interface)
    subprocess.run(DAMAGE[damage].format(port=port, address=one.addresses[0].ip).split(), check=True)
    assert attachments_of(kernel) == [found_again(one)]


@pytest.mark.parametrize("kind", list(Wiring))
def test_a_mac_that_was_asked_for_is_found_too(kernel: Netlink, pod: int, kind: Wiring) -> None:
    one = attach(kernel, msgspec.structs.replace(attachment(2, kind), mac=Mac("02:00:00:00:00:07")), pod)
    assert attachments_of(kernel) == [found_again(one)]


@pytest.mark.parametrize(
    "alias", ["", "netloom", "netloom net c9 eth0 10.1.0.2/32", "other net c2 eth0 10.1.0.2/32", "netloom net c2 eth0 x"]
)
def test_a_link_that_says_nothing_sound_is_not_taken_for_a_pod(kernel: Netlink, pod: int, alias: str) -> None:
    one = attach(kernel, attachment(2, Wiring.ROUTED), pod)
    subprocess.run(["ip", "link", "set", one.host_interface, "alias", alias], check=True)
    assert attachments_of(kernel) == []
