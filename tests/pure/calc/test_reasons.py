from __future__ import annotations

import ipaddress
from dataclasses import replace

import msgspec
import pytest

from netloom.calc.reasons import Reason, reason
from netloom.model.addresses import Mac
from netloom.model.desired import Carrier, Desired, Engine, Route, Tunnel, Vxlan
from netloom.model.forms import Form, Method, Use
from netloom.model.host import Host, Uplink
from netloom.model.resources import Encapsulation, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import pool, prefix

OWN = ipaddress.ip_interface("192.0.2.1/24")
LOCAL = OWN.ip
HOST = Host("a", "a-1", addresses=(OWN,), uplinks={"eth0": Uplink("eth0", 1500, (OWN,))})
MAC = Mac("66:00:00:00:00:01")
LINKS = {
    "loom.vxlan": Vxlan(MAC, 1450, 4096, 4789, LOCAL, "eth0"),
    "loom.ipip": Tunnel(MAC, 1480, Carrier.IPIP, Engine.EBPF, LOCAL),
    "loom.udp": Tunnel(MAC, 1472, Carrier.UDP, Engine.EBPF, LOCAL, 8285),
}
NEAR, FAR = "192.0.2.2/24", "203.0.113.2/24"


def why(encapsulation: Encapsulation, device: str, address: str, host: Host = HOST) -> Reason:
    node = Node(metadata=Metadata(name="b"), spec=NodeSpec(id="b-1", addresses=(ipaddress.ip_interface(address),)))
    snapshot = Snapshot.of(1, [pool("p", "10.0.0.0/16", encapsulation=encapsulation), node])
    uses = {("b", "p"): Use(None, None, "b does not receive it yet")}
    return reason(snapshot, host, prefix("10.0.1.0/26"), Route(device=device), node, Desired(links=LINKS, uses=uses))


@pytest.mark.parametrize(
    ("encapsulation", "device", "address", "form", "said"),
    [
        (Encapsulation.VXLAN, "loom.vxlan", NEAR, "VXLAN:4096:4789", "VXLAN, by pool p"),
        (Encapsulation.IPIP, "loom.ipip", FAR, "IPIP", "IPIP, by pool p"),
        (Encapsulation.UDP, "loom.udp", FAR, "UDP:8285", "UDP, by pool p"),
        (Encapsulation.NONE, "eth0", NEAR, "None", "neighbour on eth0"),
        (Encapsulation.VXLAN_CROSS_SUBNET, "loom.vxlan", FAR, "VXLAN:4096:4789", "other subnet: a router stands between"),
        (
            Encapsulation.IPIP_CROSS_SUBNET,
            "eth0",
            NEAR,
            "None",
            "neighbour on eth0: IPIPCrossSubnet tunnels only what crosses a router",
        ),
        (
            Encapsulation.IPIP,
            "loom.vxlan",
            NEAR,
            "VXLAN:4096:4789",
            "VXLAN:4096:4789 instead of IPIP: b does not receive it yet",
        ),
        (Encapsulation.NONE, "loom.udp", NEAR, "UDP:8285", "UDP:8285 instead of plain routes: b does not receive it yet"),
        (Encapsulation.VXLAN, "eth0", NEAR, "None", "plain routes instead of VXLAN:4096:4789: b does not receive it yet"),
    ],
)
def test_a_route_says_why_it_leads_there_as_it_does(
    encapsulation: Encapsulation, device: str, address: str, form: str, said: str
) -> None:
    found = why(encapsulation, device, address)
    assert (found.pool, str(found.form), found.why) == ("p", form, said)


def test_a_pool_that_changes_its_numbers_is_another_form() -> None:
    links = {**LINKS, "loom.vxlan": Vxlan(MAC, 1450, 1, 8472, LOCAL, "eth0")}
    node = Node(metadata=Metadata(name="b"), spec=msgspec.structs.replace(NodeSpec(), id="b-1"))
    snapshot = Snapshot.of(1, [pool("p", "10.0.0.0/16", encapsulation=Encapsulation.VXLAN), node])
    found = reason(snapshot, HOST, prefix("10.0.1.0/26"), Route(device="loom.vxlan"), node, Desired(links=links))
    assert found.why == "VXLAN:1:8472 instead of VXLAN:4096:4789: the change is under way"


def test_a_node_that_is_far_whatever_its_address_says_is_tunnelled_to_and_why() -> None:
    host = replace(HOST, far={"b": "2 routers stand between, whatever its address says"})
    assert why(Encapsulation.VXLAN_CROSS_SUBNET, "loom.vxlan", NEAR, host).why == host.far["b"]


def test_a_route_whose_pool_is_gone_says_so() -> None:
    found = reason(Snapshot(), HOST, prefix("10.0.1.0/26"), Route(device="eth0"), None, Desired(links=LINKS))
    assert found == Reason("", Form(Method.NONE), "its pool is gone")
