"""A pod's interface as the kernel shows it, and as packets find it."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from netloom.calc import pod as pod_tables
from netloom.calc.pods import BRIDGE_MAC, GATEWAYS, HOST_MAC
from netloom.cni import wiring
from netloom.cni.inspecting import inspect
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, delete_link, device, new_bridge
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from netloom.model.attachments import Attachment, AttachmentKey, NetnsId, State, Wiring, host_interface_name

interface, address = ipaddress.ip_interface, ipaddress.ip_address


def attachment(number: int, kind: Wiring) -> Attachment:
    key = AttachmentKey("net", f"c{number}", "eth0")
    bridged = kind is Wiring.BRIDGE
    addresses = (
        (f"10.1.0.{number}/26", f"fd00::{number:x}/122") if bridged else (f"10.1.0.{number}/32", f"fd00::{number:x}/128")
    )
    return Attachment(
        key=key,
        sequence=number,
        state=State.PENDING,
        netns=NetnsId(1, 1),
        host_interface=host_interface_name(key),
        mac=Mac(f"0a:58:0a:01:00:{number:02x}"),
        host_mac=Mac(f"0e:58:0a:01:00:{number:02x}") if bridged else HOST_MAC,
        mtu=1450,
        addresses=tuple(interface(a) for a in addresses),
        wiring=kind,
        bridge="loom.br0" if bridged else None,
        gateways=(address("10.1.0.1"), address("fd00::1")) if bridged else (GATEWAYS[4], GATEWAYS[6]),
    )


@pytest.fixture
def kernel(node: int) -> Iterator[Netlink]:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        with open(f"/proc/sys/net/{name}", "w") as file:
            file.write("1")
    with Netlink() as netlink:
        yield netlink


def attach(kernel: Netlink, one: Attachment, pod: int) -> Attachment:
    home = netns.own()
    try:
        wiring.attach(kernel, one, pod_tables(one), pod, home)
    finally:
        os.close(home)
    return one


def ip(*arguments: str) -> Any:  # Any: what `ip -j` prints
    return json.loads(subprocess.run(["ip", "-j", *arguments], check=True, capture_output=True).stdout or "[]")


def exchange(sender: int, receiver: int, to: str, patience: float = 10.0) -> str:
    """Sends one datagram and gives the sender's address as the receiver saw it."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with netns.entered(receiver):
        inbox = socket.socket(family, socket.SOCK_DGRAM)
    with netns.entered(sender):
        outbox = socket.socket(family, socket.SOCK_DGRAM)
    with inbox, outbox:
        inbox.settimeout(patience)
        inbox.bind((to, 4000))
        outbox.sendto(b"hello", (to, 4000))
        return str(inbox.recvfrom(100)[1][0])


def test_a_routed_pod_is_closed_up_and_has_nothing_to_ask(kernel: Netlink, pod: int) -> None:
    one = attach(kernel, attachment(2, Wiring.ROUTED), pod)
    host = device(kernel, one.host_interface)
    assert host is not None and host.up and host.alias == one.alias and host.mac == HOST_MAC and not host.generates
    assert [(r["dst"], r["dev"], r["protocol"]) for r in ip("route")] == [("10.1.0.2", one.host_interface, "79")]
    with open(f"/proc/sys/net/ipv6/conf/{one.host_interface}/accept_ra") as file:
        assert file.read().strip() == "0"
    with netns.entered(pod):
        assert [(r["dst"], r.get("gateway")) for r in ip("route")] == [("default", "169.254.1.1"), ("169.254.1.1", None)]
        assert {(n["dst"], n["lladdr"], *n["state"]) for n in ip("neigh")} == {
            ("169.254.1.1", HOST_MAC, "PERMANENT"),
            ("fe80::1", HOST_MAC, "PERMANENT"),
        }
        (eth0,) = ip("address", "show", "eth0")
        assert eth0["mtu"] == 1450 and eth0["address"] == one.mac
        assert sorted(a["local"] for a in eth0["addr_info"]) == ["10.1.0.2", "fd00::2"]
        assert "tentative" not in json.dumps(eth0)


@pytest.mark.parametrize("kind", list(Wiring))
@pytest.mark.parametrize("to", ["10.1.0.3", "fd00::3"])
def test_two_pods_of_a_node_see_each_others_own_address(kernel: Netlink, pod: int, kind: Wiring, to: str) -> None:
    other = netns.create()
    try:
        attach(kernel, attachment(2, kind), pod)
        attach(kernel, attachment(3, kind), other)
        assert exchange(pod, other, to) == to.replace("3", "2")
    finally:
        os.close(other)


def test_a_bridge_is_made_once_and_its_ports_have_hairpin(kernel: Netlink, pod: int) -> None:
    other = netns.create()
    try:
        ports = [attach(kernel, attachment(2, Wiring.BRIDGE), pod), attach(kernel, attachment(3, Wiring.BRIDGE), other)]
        bridge = device(kernel, "loom.br0")
        assert bridge is not None and bridge.kind == "bridge" and bridge.mac == BRIDGE_MAC
        for port in ports:
            link = device(kernel, port.host_interface)
            assert link is not None and link.master == bridge.index and link.hairpin
        (shown,) = ip("address", "show", "loom.br0")
        assert {f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"]} == {"10.1.0.1/26", "fd00::1/122"}
    finally:
        os.close(other)


def test_a_second_interface_of_the_same_name_is_refused_and_leaves_no_link(kernel: Netlink, pod: int) -> None:
    attach(kernel, attachment(2, Wiring.ROUTED), pod)
    before = [link["ifname"] for link in ip("link")]
    with pytest.raises(
        DataplaneError, match=r"eth0: cannot be made: in the sandbox there is one already \(veth interface eth0, MAC 0a:58"
    ):
        attach(kernel, attachment(3, Wiring.ROUTED), pod)
    assert [link["ifname"] for link in ip("link")] == before


def test_what_is_no_bridge_is_not_taken_for_one(kernel: Netlink, pod: int) -> None:
    one = msgspec.structs.replace(attachment(2, Wiring.BRIDGE), bridge="lo")
    with pytest.raises(DataplaneError, match="not a bridge"):
        attach(kernel, one, pod)


def test_a_bridge_of_somebody_else_is_refused_and_left_as_it_is(kernel: Netlink, pod: int) -> None:
    kernel.transact(new_bridge("br-lan", mac=Mac("02:00:00:00:00:07"), mtu=9000, up=True))
    before = ip("-4", "address"), device(kernel, "br-lan"), ip("neigh"), ip("route")
    with pytest.raises(DataplaneError, match="somebody else"):
        attach(kernel, msgspec.structs.replace(attachment(2, Wiring.BRIDGE), bridge="br-lan"), pod)
    assert (ip("-4", "address"), device(kernel, "br-lan"), ip("neigh"), ip("route")) == before


def test_when_the_host_end_goes_the_pod_end_goes_with_it(kernel: Netlink, pod: int) -> None:
    one = attach(kernel, attachment(2, Wiring.ROUTED), pod)
    host = device(kernel, one.host_interface)
    assert host is not None
    kernel.transact(delete_link(host.index))
    assert inspect(kernel, one, pod_tables(one), pod) == [f"the host interface {one.host_interface} is gone"]
    assert ip("route") == []
