"""A pod's link is held to its rates before it is up, and what is no more so is said in words."""

from __future__ import annotations

import os

import msgspec
import pytest

from netloom.calc import pod as pod_tables
from netloom.calc.tables import Tables
from netloom.cni import limiting
from netloom.dataplane import netns
from netloom.dataplane.netlink import Netlink, device
from netloom.model.attachments import Attachment, Bandwidth, Wiring, ifb_name
from tests.kernel.cni.test_wiring import attach, attachment, exchange, kernel
from tests.kernel.iproute import run, shown

__all__ = ["kernel"]  # the fixture

BOTH = Bandwidth(ingress_rate=8_000_000, ingress_burst=800_000, egress_rate=8_000_000, egress_burst=800_000)


@pytest.fixture(params=list(Wiring), ids=lambda wiring: wiring.value)
def limited(request: pytest.FixtureRequest, kernel: Netlink, pod: int) -> Attachment:
    return attach(kernel, msgspec.structs.replace(attachment(2, request.param), bandwidth=BOTH), pod)


def part(one: Attachment) -> Tables:
    return pod_tables(one)


def test_everything_stands_when_the_link_is_made(kernel: Netlink, limited: Attachment) -> None:
    assert limiting.inspect(kernel, part(limited)) == []
    ifb = device(kernel, ifb_name(limited.host_interface))
    assert ifb and ifb.up and not ifb.generates
    assert (ifb.kind, ifb.alias, ifb.mtu) == ("ifb", limited.alias, limited.mtu)
    assert not [a for link in shown(f"ip addr show dev {ifb.name}") for a in link["addr_info"]]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("tc qdisc del dev {host} root", ["{host} does not hold to its rate"]),
        ("tc qdisc del dev {host} clsact", ["{host} does not hold to its rate"]),
        ("tc qdisc del dev {ifb} root", ["{ifb} does not hold to its rate"]),
        ("tc qdisc change dev {ifb} root tbf rate 1gbit burst 100kb limit 200kb", ["{ifb} does not hold to its rate"]),
        ("ip link set {ifb} down", ["{ifb} is down: nothing that the pod sends passes"]),
        ("ip link del {ifb}", ["{host} does not hold to its rate", "{ifb} does not hold to its rate"]),
    ],
)
def test_what_somebody_changed_is_said(kernel: Netlink, limited: Attachment, damage: str, said: list[str]) -> None:
    names = {"host": limited.host_interface, "ifb": ifb_name(limited.host_interface)}
    run(damage.format(**names))
    assert sorted(limiting.inspect(kernel, part(limited))) == sorted(one.format(**names) for one in said)


@pytest.mark.parametrize("limited", [Wiring.ROUTED], indirect=True)
def test_a_pod_whose_ifb_is_gone_sends_nothing_rather_than_without_a_limit(
    kernel: Netlink, limited: Attachment, pod: int
) -> None:
    """Until a pass has made it again."""
    other = netns.create()
    try:
        attach(kernel, attachment(3, limited.wiring), other)
        assert exchange(pod, other, "10.1.0.3") == "10.1.0.2"
        run(f"ip link del {ifb_name(limited.host_interface)}")
        with pytest.raises(TimeoutError):
            exchange(pod, other, "10.1.0.3", 0.3)
    finally:
        os.close(other)
