"""Published ports as runtimes write them: what is taken, and the words for what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.cni import messages
from netloom.cni.messages import Add
from netloom.errors import CniError
from tests.pure.cni.calls import ENVIRONMENT, HOST, NETNS, stdin


def asked(*mappings: Any) -> list[str]:
    config = {"cniVersion": "1.1.0", "name": "blue", "runtimeConfig": {"portMappings": list(mappings)}}
    request = messages.parse(ENVIRONMENT, stdin(config), NETNS, HOST)
    assert isinstance(request, Add)
    return [str(port) for port in request.ports]


def refused(*mappings: Any) -> str:
    with pytest.raises(CniError) as e:
        asked(*mappings)
    assert e.value.code == 7
    return str(e.value)


def mapping(host: object = 8080, container: object = 80, **more: object) -> dict[str, object]:
    return {"hostPort": host, "containerPort": container, **more}


def test_protocol_and_address_may_be_left_out() -> None:
    assert asked(mapping()) == ["8080:80/tcp"]
    assert asked(mapping(protocol="", hostIP="")) == ["8080:80/tcp"]


def test_protocols_in_capitals_as_kubernetes_has_them() -> None:
    assert asked(mapping(protocol="UDP"), mapping(protocol="SCTP")) == ["8080:80/udp", "8080:80/sctp"]


def test_keys_in_capitals_as_containerd_writes_them() -> None:
    assert asked({"HostPort": 8080, "ContainerPort": 80, "Protocol": "udp", "HostIP": "127.0.0.1"}) == ["127.0.0.1:8080:80/udp"]


def test_a_range_is_one_mapping_for_each_port() -> None:
    assert asked(*(mapping(8000 + number, 80 + number) for number in range(3))) == ["8000:80/tcp", "8001:81/tcp", "8002:82/tcp"]


def test_without_a_port_of_the_host_nothing_is_asked_for() -> None:
    assert asked(mapping(0), {"containerPort": 80}, {}) == []


def test_one_port_may_lead_from_several_addresses() -> None:
    assert len(asked(mapping(hostIP="0.0.0.0"), mapping(hostIP="::"))) == 2
    assert len(asked(mapping(hostIP="127.0.0.1"), mapping(hostIP="192.0.2.1"), mapping(protocol="udp"))) == 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (mapping(70000), "[1].hostPort"),
        (mapping(-1), "[1].hostPort"),
        (mapping("80"), "[1].hostPort"),
        (mapping(80, 70000), "[1].containerPort"),
        (mapping(80, 0), "[1].containerPort: 0 is no port"),
        (mapping(80, protocol="icmp"), "[1].protocol: 'icmp' is none of tcp, udp, sctp"),
        (mapping(80, protocol="tcp,udp"), "[1].protocol"),
        (mapping(80, protocol=6), "[1].protocol"),
        (mapping(80, hostIP="example.org"), "[1].hostIP: 'example.org'"),
        (mapping(80, hostIP="10.0.0.0/8"), "[1].hostIP"),
        (mapping(80, hostIP="fe80::1%eth0"), "[1].hostIP"),
        (mapping(80, hostIP="::1"), "[1].hostIP: ::1"),
        (mapping(80, hostIP="9" * 5000), "[1].hostIP"),
        (mapping(9000, 81), "[1]: 9000:81/tcp and 9000:80/tcp are the same port of the host"),
        (mapping(9000, hostIP="127.0.0.1"), "[1]: 127.0.0.1:9000:80/tcp and 9000:80/tcp"),
        ("8080:80", "[1]"),
        (None, "[1]"),
    ],
)
def test_what_cannot_be_published_is_said_with_its_place(wrong: object, words: str) -> None:
    said = refused(mapping(9000), wrong)
    assert said.startswith("runtimeConfig.portMappings") and words in said
    assert len(said) < 400


def test_sixty_thousand_ports_are_looked_through_quickly() -> None:
    assert len(asked(*(mapping(number) for number in range(1, 60_000)))) == 59_999


@given(
    st.lists(st.dictionaries(st.sampled_from(["hostPort", "containerPort", "protocol", "hostIP"]), st.integers() | st.text()))
)
def test_whatever_comes_is_taken_or_refused(mappings: list[dict[str, object]]) -> None:
    try:
        asked(*mappings)
    except CniError as e:
        assert e.code in (6, 7)
