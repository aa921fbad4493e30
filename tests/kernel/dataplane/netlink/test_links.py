"""Requests for links, each checked with the eyes of `ip`."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netloom.dataplane import netns
from netloom.dataplane.netlink import (
    Netlink,
    NetlinkError,
    VxlanData,
    delete_group,
    delete_link,
    device,
    devices,
    in_service,
    indexes,
    is_local,
    new_bridge,
    new_veth,
    new_vxlan,
    put_address,
    put_neighbour,
    put_route,
    set_hairpin,
    set_link,
    set_vxlan,
)
from netloom.model.addresses import Mac
from netloom.model.desired import Route, RouteKey

HOST, POD = Mac("ee:ee:ee:ee:ee:ee"), Mac("0a:58:0a:f4:00:02")


def shown(name: str) -> dict[str, Any]:
    """What `ip -d link show` says."""
    out = subprocess.run(["ip", "-d", "-j", "link", "show", name], check=True, capture_output=True, text=True).stdout
    return dict(json.loads(out)[0])


def test_a_veth_is_born_in_two_namespaces_with_names_indexes_and_macs_as_asked(node: int, pod: int) -> None:
    with Netlink() as netlink:
        netlink.transact(
            new_veth("loom0", "eth0", pod, mac=HOST, peer_mac=POD, mtu=1450, index=77, peer_index=2),
            set_link(77, up=True, alias="netloom n c eth0 10.0.0.2/32", generates=False, ipv4={"rp_filter": 1, "proxy_arp": 1}),
        )
        here = device(netlink, "loom0")
    with Netlink(pod) as inside:
        inside.transact(set_link(2, up=True, generates=False))
        there = device(inside, "eth0")
    assert here and there
    assert (here.index, here.kind, here.mac, here.mtu, here.up, here.peer) == (77, "veth", HOST, 1450, True, 2)
    assert here.alias == "netloom n c eth0 10.0.0.2/32"
    assert not here.generates and not there.generates
    assert (there.index, there.mac, there.mtu, there.up, there.peer) == (2, POD, 1450, True, 77)
    assert shown("loom0")["inet6_addr_gen_mode"] == "none"
    assert Path("/proc/sys/net/ipv4/conf/loom0/rp_filter").read_text() == "1\n"


def test_a_pod_is_wired_in_two_sends(node: int, pod: int) -> None:
    gateway = ipaddress.ip_address("169.254.1.1")
    with Netlink() as netlink, Netlink(pod) as inside:
        netlink.transact(new_veth("loom0", "eth0", pod, mac=HOST, peer_mac=POD, mtu=1450, index=77, peer_index=2))
        inside.transact(
            set_link(2, up=True),
            put_address(2, ipaddress.ip_interface("10.244.0.2/32")),
            put_neighbour(2, gateway, HOST),
            put_route(RouteKey(ipaddress.ip_network("0.0.0.0/0"), 0), Route("eth0", gateway, onlink=True), 2),
        )
    with netns.entered(pod):
        out = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    assert "default via 169.254.1.1 dev eth0 proto 79 onlink" in out


@pytest.mark.parametrize("address", ["10.244.0.2", "fd00::2"])
def test_the_first_packet_to_a_pod_arrives_once_its_link_is_in_service_and_its_address_is_local(
    node: int, address: str
) -> None:
    target = ipaddress.ip_interface(address)
    with Netlink() as netlink:
        netlink.transact(set_link(1, up=True), new_bridge("up0", mac=HOST, mtu=1500, index=50, up=True))
        netlink.transact(*(put_address(50, ipaddress.ip_interface(own)) for own in ("10.9.0.1/24", "fd09::1/64")))
        for index in range(1000, 1020):
            pod = netns.create()
            with netns.entered(pod):
                inbox = socket.socket(socket.AF_INET if target.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
            with inbox, socket.socket(inbox.family, socket.SOCK_DGRAM) as outbox, Netlink(pod) as inside:
                netlink.transact(
                    new_veth("loom0", "eth0", pod, mac=HOST, peer_mac=POD, mtu=1450, index=index, peer_index=index),
                    set_link(index, up=True),
                    put_neighbour(index, target.ip, POD),
                    put_route(RouteKey(ipaddress.ip_network(address), 1024), Route("loom0"), index),
                )
                inside.transact(set_link(1, up=True), set_link(index, up=True), put_address(index, target))
                while not in_service(netlink, "loom0"):
                    pass
                while not is_local(inside, target.ip):
                    pass
                inbox.settimeout(10)
                inbox.bind((address, 4000))
                outbox.sendto(b"first", (address, 4000))
                assert inbox.recv(10) == b"first"
            netlink.transact(delete_link(index))
            os.close(pod)


def test_a_bridge_takes_ports_and_sends_frames_back_to_them(node: int, pod: int) -> None:
    with Netlink() as netlink:
        netlink.transact(
            new_bridge("loom.br0", mac=HOST, mtu=1450, index=50, up=True),
            new_veth("loom0", "eth0", pod, mac=HOST, peer_mac=POD, mtu=1450, index=51, master=50, up=True),
            set_hairpin(51, True),
        )
        port = device(netlink, "loom0")
        assert port and port.master == 50 and port.hairpin and port.up
        netlink.transact(set_hairpin(51, False), set_link(51, master=0, up=False))
        port = device(netlink, "loom0")
        assert port and port.master == 0 and not port.hairpin and not port.up


def test_a_bridge_has_no_more_to_tell_of_its_ports_after_a_while(node: int) -> None:
    with Netlink() as netlink:
        netlink.transact(new_bridge("loom.br0", mac=HOST, mtu=1450))
    assert shown("loom.br0")["linkinfo"]["info_data"]["forward_delay"] == 0


@pytest.mark.parametrize("local", ["172.16.0.1", "2001:db8::1"])
def test_a_vxlan_device_carries_the_family_of_its_local_address(node: int, local: str) -> None:
    address = ipaddress.ip_address(local)
    with Netlink() as netlink:
        netlink.transact(new_bridge("up0", mac=HOST, mtu=1500, index=9, up=True))
        data = VxlanData(vni=4096, port=4789, local=address, parent=9, learning=False)
        netlink.transact(new_vxlan("loom.vxlan", data, mac=POD, mtu=1430, index=10, up=True))
        made = device(netlink, "loom.vxlan")
        assert made and made.vxlan == data and made.mac == POD and made.mtu == 1430
        info = shown("loom.vxlan")["linkinfo"]["info_data"]
        assert info["id"] == 4096 and info["port"] == 4789 and info["link"] == "up0" and not info["learning"]
        assert info["udp_csum"] and info["udp_zero_csum6_rx"] and not info["udp_zero_csum6_tx"]

        subprocess.run(["ip", "link", "set", "loom.vxlan", "type", "vxlan", "learning"], check=True)
        netlink.transact(set_vxlan(10, data))
        made = device(netlink, "loom.vxlan")
        assert made and made.vxlan == data


def test_links_are_deleted_one_by_one_or_as_a_group(node: int, pod: int) -> None:
    with Netlink() as netlink:
        netlink.transact(*(new_veth(f"loom{i}", f"e{i}", pod, mac=HOST, peer_mac=POD, mtu=1500) for i in range(4)))
        at = indexes(netlink, [f"loom{i}" for i in range(4)])
        netlink.transact(delete_link(at["loom0"]))
        netlink.transact(*(set_link(at[name], group=4711) for name in ("loom1", "loom2")), delete_group(4711))
        assert {found.name for found in devices(netlink)} == {"lo", "loom3"}


def test_a_refusal_names_the_message_and_the_kernels_reason_and_the_next_batch_is_not_confused(node: int) -> None:
    with Netlink() as netlink:
        with pytest.raises(NetlinkError) as e:
            netlink.transact(
                new_bridge("loom.br0", mac=HOST, mtu=1500, index=50),
                put_route(RouteKey(ipaddress.ip_network("10.0.0.0/24"), 0), Route("x"), 999),
                new_bridge("loom.br0", mac=HOST, mtu=1500),
            )
        assert (e.value.index, e.value.errno) == (1, errno.ENODEV)
        netlink.transact(set_link(50, up=True))
        assert device(netlink, "loom.br0") and device(netlink, "loom.br1") is None
        with pytest.raises(NetlinkError, match=r"message 0: .*: .*VXLAN"):
            bad = VxlanData(vni=1 << 30, port=4789, local=None, parent=0, learning=False)
            netlink.transact(new_vxlan("loom.vxlan", bad, mac=HOST, mtu=1500))
