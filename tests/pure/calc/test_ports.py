"""Published ports as data: what one becomes in the kernel, what clashes, and the way back."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.calc import desired
from netloom.calc.ports import clash, needs_localnet, published, recovered, takes
from netloom.model.attachments import Attachment, PublishedPort
from netloom.model.desired import Published
from netloom.model.snapshot import Snapshot
from tests.pure.calc.test_desired import HOST, attachment

address = ipaddress.ip_address

V4, V6 = ipaddress.ip_interface("10.244.1.2/26"), ipaddress.ip_interface("fd00::2/122")
BOTH = (V4, V6)


def pod(*ports: PublishedPort, addresses: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...] = BOTH) -> Attachment:
    gateways = tuple(one.network[1] for one in addresses)
    made = attachment("pod", "10.244.1.2/26", bridge="br0")
    return msgspec.structs.replace(made, addresses=addresses, gateways=gateways, ports=ports)


def port(host: int = 8080, where: str | None = None, protocol: str = "tcp", container: int = 80) -> PublishedPort:
    return PublishedPort(protocol, host, container, address(where) if where else None)


def lines(attachment: Attachment) -> list[str]:
    return sorted(f"{p.protocol} {p.host_address or 'any'} {p.host_port} > {p.address} {p.port}" for p in published(attachment))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, ["tcp any 8080 > 10.244.1.2 80", "tcp any 8080 > fd00::2 80"]),
        ("0.0.0.0", ["tcp any 8080 > 10.244.1.2 80"]),
        ("::", ["tcp any 8080 > fd00::2 80"]),
        ("127.0.0.1", ["tcp 127.0.0.1 8080 > 10.244.1.2 80"]),
        ("192.0.2.11", ["tcp 192.0.2.11 8080 > 10.244.1.2 80"]),
        ("2001:db8::1", ["tcp 2001:db8::1 8080 > fd00::2 80"]),
    ],
)
def test_a_port_is_published_in_the_families_that_its_host_address_says(where: str | None, expected: list[str]) -> None:
    assert lines(pod(port(where=where))) == expected


def test_a_pod_of_one_family_publishes_in_that_one() -> None:
    assert lines(pod(port(), addresses=(V6,))) == ["tcp any 8080 > fd00::2 80"]


def test_who_publishes_nothing_costs_nothing() -> None:
    assert published(pod()) == ()
    assert desired(Snapshot(), [pod()], HOST).filter.published == frozenset()


@pytest.mark.parametrize(
    ("where", "opened"), [(None, True), ("0.0.0.0", True), ("127.0.0.1", True), ("192.0.2.11", False), ("::", False)]
)
def test_loopback_reaches_the_bridge_where_a_port_is_published_there(where: str | None, opened: bool) -> None:
    ports = published(pod(port(where=where)))
    assert needs_localnet(ports) == ({"br0"} if opened else set())
    other = msgspec.structs.replace(attachment("other", "10.244.1.3/26", bridge="br0"))
    for pods in ([pod(port(where=where)), other], [other, pod(port(where=where))]):
        sysctls = desired(Snapshot(), pods, HOST).sysctls
        assert sysctls["net/ipv4/conf/br0/route_localnet"] == ("1" if opened else "0")
        assert [name for name, value in sysctls.items() if "route_localnet" in name and value == "1"] == (
            ["net/ipv4/conf/br0/route_localnet"] if opened else []
        )


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (port(), port(), True),
        (port(), port(container=81), True),
        (port(), port(8081), False),
        (port(), port(protocol="udp"), False),
        (port(), port(where="192.0.2.11"), True),
        (port(where="0.0.0.0"), port(where="192.0.2.11"), True),
        (port(where="0.0.0.0"), port(where="::"), False),
        (port(where="::"), port(where="2001:db8::1"), True),
        (port(where="127.0.0.1"), port(where="192.0.2.11"), False),
        (port(where="192.0.2.11"), port(where="192.0.2.11"), True),
    ],
)
def test_two_clash_where_one_packet_would_mean_both(one: PublishedPort, other: PublishedPort, same: bool) -> None:
    assert clash(one, other) is clash(other, one) is same
    mine, theirs = published(pod(one)), published(pod(other))
    assert any(takes(a, b) for a in mine for b in theirs) is same


ports = st.lists(
    st.builds(
        port,
        st.integers(1, 3),
        st.sampled_from([None, "0.0.0.0", "::", "127.0.0.1", "192.0.2.11", "2001:db8::1"]),
        st.sampled_from(["tcp", "udp", "sctp"]),
        st.integers(1, 3),
    ),
    max_size=6,
)


@given(ports, st.sampled_from([(V4,), (V6,), BOTH]))
def test_what_the_kernel_holds_says_what_was_published(found: list[PublishedPort], addresses: tuple[()]) -> None:
    before = pod(*found, addresses=addresses)
    held = {port._replace(interface="", beside=ipaddress.ip_network(port.address)) for port in published(before)}
    others = Published("tcp", None, 9, address("10.244.1.77"), 9, "", ipaddress.ip_network("10.244.1.77"))
    after = msgspec.structs.replace(before, ports=recovered(before, {*held, others}))
    assert set(published(after)) == set(published(before))


def test_a_port_reads_as_docker_writes_it() -> None:
    assert [str(port()), str(port(where="127.0.0.1")), str(port(where="::1", protocol="udp"))] == [
        "8080:80/tcp",
        "127.0.0.1:8080:80/tcp",
        "[::1]:8080:80/udp",
    ]
