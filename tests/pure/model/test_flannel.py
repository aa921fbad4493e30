"""Flannel's net-conf.json as pools and numbers of ours."""

from __future__ import annotations

import ipaddress
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.model.manifest import read
from netloom.model.resources import AnyResource, Encapsulation, FelixConfiguration, IPPool


def objects(config: object) -> list[AnyResource]:
    manifest = read([("net-conf.json", json.dumps(config).encode())])
    assert [str(e) for e in manifest.errors] == []
    return [item.resource for item in manifest.items]


def errors(config: object) -> list[str]:
    return [str(e).removeprefix("net-conf.json:1: ") for e in read([("net-conf.json", json.dumps(config).encode())]).errors]


def net_conf(**backend: object) -> dict[str, object]:
    return {"Network": "10.244.0.0/16", "Backend": backend}


@pytest.mark.parametrize(
    ("backend", "encapsulation", "numbers"),
    [
        ({"Type": "vxlan"}, Encapsulation.VXLAN, (1, 8472, 0, 0)),
        ({"Type": "vxlan", "Port": 0, "Learning": False}, Encapsulation.VXLAN, (1, 8472, 0, 0)),
        ({"Type": "vxlan", "VNI": 7, "Port": 4789, "MTU": 1400}, Encapsulation.VXLAN, (7, 4789, 0, 1350)),
        ({"Type": "VXLAN", "DirectRouting": True}, Encapsulation.VXLAN_CROSS_SUBNET, (1, 8472, 0, 0)),
        ({"Type": "host-gw"}, Encapsulation.NONE, None),
        ({"Type": "ipip"}, Encapsulation.IPIP, None),
        ({"Type": "ipip", "DirectRouting": True, "MTU": 1500}, Encapsulation.IPIP_CROSS_SUBNET, (0, 0, 0, 1480)),
        ({"Type": "udp"}, Encapsulation.UDP, (0, 0, 8285, 0)),
        ({"Type": "udp", "Port": 9000}, Encapsulation.UDP, (0, 0, 9000, 0)),
    ],
)
def test_each_backend_is_an_encapsulation_with_its_numbers(
    backend: dict[str, object], encapsulation: Encapsulation, numbers: tuple[int, ...] | None
) -> None:
    pool, *rest = objects(net_conf(**backend))
    assert isinstance(pool, IPPool)
    assert (pool.name, str(pool.spec.cidr), pool.spec.block_size, pool.spec.nat_outgoing) == (
        "flannel",
        "10.244.0.0/16",
        24,
        True,
    )
    assert pool.spec.encapsulation is encapsulation
    found = [
        (r.spec.vxlan_vni, r.spec.vxlan_port, r.spec.udp_port, r.spec.mtu) for r in rest if isinstance(r, FelixConfiguration)
    ]
    assert found == ([numbers] if numbers else [])


@pytest.mark.parametrize(
    ("network", "length"), [("10.0.0.0/8", 24), ("10.0.0.0/22", 24), ("10.0.0.0/24", 26), ("10.0.0.0/31", 32)]
)
def test_a_node_gets_what_flannel_gives_it(network: str, length: int) -> None:
    [pool] = objects({"Network": network, "Backend": {"Type": "host-gw"}})
    assert isinstance(pool, IPPool)
    assert pool.spec.block_size == length


def test_both_families_have_a_pool_each() -> None:
    config = net_conf(Type="vxlan") | {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/56", "SubnetLen": 25}
    pools = [r for r in objects(config) if isinstance(r, IPPool)]
    assert [(p.name, p.spec.cidr.version, p.spec.block_size) for p in pools] == [("flannel", 4, 25), ("flannel-ipv6", 6, 122)]
    [only] = [r for r in objects(config | {"EnableIPv4": False}) if isinstance(r, IPPool)]
    assert only.spec.cidr == ipaddress.ip_network("fd00:10:244::/56")


def test_it_is_read_out_of_its_config_map() -> None:
    data = {"net-conf.json": json.dumps(net_conf(Type="host-gw"), indent=2), "cni-conf.json": "{}"}
    shown = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-flannel-cfg"}, "data": data}
    assert objects(shown) == objects(net_conf(Type="host-gw"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"Network": "10.244.0.0/16"}, "Backend: is missing: flanneld takes udp then"),
        (net_conf(Type="wireguard"), "Backend.Type: wireguard is none of vxlan, host-gw, ipip, udp"),
        (net_conf(), "Backend.Type"),
        (net_conf(Type="vxlan", Learning=True), "Backend.Learning: our VXLAN device learns nothing"),
        (net_conf(Type="vxlan", GBP=True), "Backend.GBP"),
        (net_conf(Type="vxlan", VNI="1"), "Backend.VNI: expected a whole number"),
        (net_conf(Type="vxlan", VNI=1 << 24), "Backend.VNI: 16777216 is out of range"),
        (net_conf(Type="udp", Port=70000), "Backend.Port: 70000 is out of range"),
        (net_conf(Type="vxlan", MTU=600), "Backend.MTU: 550 is out of range"),
        (net_conf(Type="host-gw", DirectRouting=True), "Backend.DirectRouting: is no field of host-gw"),
        (net_conf(Type="vxlan") | {"Network": "10.244.0.1/16"}, "Network: "),
        (net_conf(Type="vxlan") | {"SubnetLen": 12}, "SubnetLen: 12 is out of range"),
        (net_conf(Type="vxlan") | {"SubnetMin": "10.244.3.0"}, "SubnetMin: a pool gives out all of its blocks"),
        (net_conf(Type="vxlan") | {"EnableIPv6": True}, "IPv6Network: is missing"),
        (net_conf(Type="vxlan") | {"EnableIPv6": "yes", "IPv6Network": "fd00::/56"}, "EnableIPv6: expected true or false"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_flannels_name_of_it(config: object, said: str) -> None:
    found = errors(config)
    assert found and found[0].startswith(said)


values = st.none() | st.booleans() | st.integers(-1, 70000) | st.text(max_size=8) | st.just("10.244.0.0/16") | st.just("vxlan")
backends = st.dictionaries(st.sampled_from(["Type", "VNI", "Port", "MTU", "DirectRouting", "Learning", "x"]), values)
names = ["Network", "IPv6Network", "SubnetLen", "EnableIPv4", "EnableIPv6", "SubnetMax"]


@given(st.dictionaries(st.sampled_from(names), values), backends | values)
def test_whatever_it_says_there_are_objects_or_reasons(config: dict[str, object], backend: object) -> None:
    manifest = read([("net-conf.json", json.dumps(config | {"Network": "10.244.0.0/16", "Backend": backend}).encode())])
    assert bool(manifest.items) is not bool(manifest.errors)
