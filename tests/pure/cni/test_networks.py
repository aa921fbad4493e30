"""A network of one host in its configuration: what it declares, and what is refused with the key's name."""

from __future__ import annotations

import ipaddress

import pytest

from netloom.cni.messages import Add, Request, Status, parse
from netloom.errors import CniError
from netloom.ipam.networks import Declared
from tests.pure.cni.calls import ENVIRONMENT, HOST, NETNS, stdin

prefix, address = ipaddress.ip_network, ipaddress.ip_address

MINIMAL: dict[str, object] = {"cniVersion": "1.1.0", "name": "blue"}
BLUE = MINIMAL | {"wiring": "bridge", "bridge": "blue0", "subnet": "172.20.0.0/16"}


def request(config: dict[str, object], command: str = "ADD") -> Request:
    return parse(ENVIRONMENT | {"CNI_COMMAND": command}, stdin(config), NETNS, HOST)


@pytest.mark.parametrize(
    ("keys", "declared"),
    [
        ({}, Declared("blue", "blue0", (prefix("172.20.0.0/16"),))),
        (
            {"subnet": ["172.20.0.0/16", "fd00:20::/64"], "gateway": ["172.20.0.9"]},
            Declared("blue", "blue0", (prefix("172.20.0.0/16"), prefix("fd00:20::/64")), (address("172.20.0.9"),)),
        ),
        (
            {"gateway": "172.20.0.254", "internal": True, "isolated": False, "ipMasq": False},
            Declared("blue", "blue0", (prefix("172.20.0.0/16"),), (address("172.20.0.254"),), True, False, False),
        ),
        (
            {"ipRange": "172.20.8.0/24"},
            Declared("blue", "blue0", (prefix("172.20.0.0/16"),), ranges=(prefix("172.20.8.0/24"),)),
        ),
    ],
)
def test_a_network_is_what_its_configuration_says_and_no_more(keys: dict[str, object], declared: Declared) -> None:
    for command in ("ADD", "STATUS"):
        found = request(BLUE | keys, command)
        assert isinstance(found, Add | Status) and found.declared == declared


def test_a_configuration_without_a_subnet_declares_none() -> None:
    found = request(MINIMAL)
    assert isinstance(found, Add) and found.declared is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"subnet": "172.20.0.1/16"}, "subnet: '172.20.0.1/16' has host bits set; did you mean 172.20.0.0/16?"),
        ({"subnet": "172.20.0.0"}, "subnet: '172.20.0.0' has no prefix length"),
        ({"subnet": "x/16"}, "subnet:"),
        ({"subnet": 5}, "subnet"),
        ({"subnet": []}, "subnet: takes a prefix, or one of each family"),
        ({"subnet": ["172.20.0.0/16", "172.21.0.0/16"]}, "subnet: takes a prefix, or one of each family"),
        ({"subnet": "172.20.0.0/31"}, "subnet: 172.20.0.0/31 is no network's; IPv4 takes /8 to /30"),
        ({"subnet": "0.0.0.0/0"}, "subnet:"),
        ({"subnet": "127.0.0.0/8"}, "subnet: 127.0.0.0/8 is not for pods"),
        ({"subnet": "224.0.0.0/8"}, "subnet: 224.0.0.0/8 is not for pods"),
        ({"subnet": "fe80::/64"}, "subnet: fe80::/64 is not for pods"),
        ({"gateway": "172.21.0.1"}, "gateway: 172.21.0.1 is outside 172.20.0.0/16"),
        ({"gateway": "172.20.0.0"}, "gateway: 172.20.0.0 is the network's own"),
        ({"gateway": "172.20.255.255"}, "gateway: 172.20.255.255 is the network's own or its broadcast"),
        ({"gateway": "fd00::1"}, "gateway: takes an address of the subnet"),
        ({"gateway": ["172.20.0.1", "172.20.0.2"]}, "gateway: takes an address of the subnet"),
        ({"gateway": "172.20.0.300"}, "gateway: '172.20.0.300'"),
        ({"ipRange": "172.21.0.0/24"}, "ipRange: 172.21.0.0/24 is outside 172.20.0.0/16"),
        ({"ipRange": "172.20.0.0/31"}, "ipRange: 172.20.0.0/31 has no address for a pod"),
        ({"ipRange": "172.20.0.1/24"}, "ipRange: '172.20.0.1/24' has host bits set"),
        ({"ipRange": ["172.20.0.0/24", "172.20.1.0/24"]}, "ipRange: takes a part of the subnet"),
        ({"ipRange": "fd00::/64"}, "ipRange: takes a part of the subnet"),
        ({"subnet": None, "ipRange": "172.20.0.0/24"}, "ipRange: goes with `subnet`"),
        ({"wiring": "routed"}, "subnet: a network with a subnet of its own is one link, and needs wiring bridge"),
        ({"ipv4Pools": ["v4"]}, "subnet: is a pool by itself"),
        ({"pools": []}, "subnet: is a pool by itself"),
        ({"internal": True, "ipMasq": True}, "ipMasq: nothing leaves an internal network"),
        ({"internal": "yes"}, "internal"),
        ({"isolated": 1}, "isolated"),
        ({"bridge": "loom.vxlan"}, "bridge: loom.vxlan is a name that other interfaces of ours have"),
        ({"bridge": "loom0123456789a"}, "bridge: loom0123456789a is a name"),
        ({"subnet": None, "gateway": "172.20.0.1"}, "gateway: goes with `subnet`"),
        ({"subnet": None, "internal": False}, "internal: goes with `subnet`"),
        ({"subnet": None, "isolated": True}, "isolated: goes with `subnet`"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "STATUS"])
def test_what_cannot_be_is_refused_by_its_key(keys: dict[str, object], said: str, command: str) -> None:
    with pytest.raises(CniError) as e:
        request(BLUE | keys, command)
    assert e.value.code == 7
    assert said in str(e.value)


@pytest.mark.parametrize("keys", [{"subnet": "rubbish"}, {"gateway": 7}, {"wiring": "routed"}])
def test_a_del_looks_at_none_of_it(keys: dict[str, object]) -> None:
    request(BLUE | keys, "DEL")


def test_a_long_value_is_not_repeated() -> None:
    with pytest.raises(CniError) as e:
        request(BLUE | {"subnet": "1" * 3000})
    assert len(str(e.value)) < 400
