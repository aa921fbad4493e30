"""What has to be run to open a passage in iptables' legacy variant, given the listing of its rules."""

from __future__ import annotations

import ipaddress

import pytest

from netloom.dataplane.foreign.legacy import commands
from netloom.model.desired import IPIP, TCP, UDP, Outer

POOL = ipaddress.ip_network("10.244.0.0/16")
OTHER = ipaddress.ip_network("10.245.0.0/16")
EMPTY = ("-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-P OUTPUT ACCEPT")
DROPPING = ("-P INPUT ACCEPT", "-P FORWARD DROP", "-P OUTPUT ACCEPT")
OPEN = (
    *DROPPING,
    "-N NETLOOM-FORWARD",
    "-A FORWARD -j NETLOOM-FORWARD",
    "-A NETLOOM-FORWARD -s 10.244.0.0/16 -j ACCEPT",
    "-A NETLOOM-FORWARD -d 10.244.0.0/16 -j ACCEPT",
)


def test_a_firewall_that_lets_everything_through_is_left_alone() -> None:
    assert list(commands(EMPTY, [POOL])) == []


def test_a_dropping_firewall_gets_one_jump_to_a_chain_that_accepts() -> None:
    assert list(commands(DROPPING, [POOL])) == [
        ["-N", "NETLOOM-FORWARD"],
        ["-A", "NETLOOM-FORWARD", "-s", "10.244.0.0/16", "-j", "ACCEPT"],
        ["-A", "NETLOOM-FORWARD", "-d", "10.244.0.0/16", "-j", "ACCEPT"],
        ["-I", "FORWARD", "1", "-j", "NETLOOM-FORWARD"],
    ]


def test_what_stands_already_is_not_written_again() -> None:
    assert list(commands(OPEN, [POOL])) == []


def test_another_pool_is_accepted_before_the_old_one_is_forgotten() -> None:
    assert list(commands(OPEN, [OTHER])) == [
        ["-A", "NETLOOM-FORWARD", "-s", "10.245.0.0/16", "-j", "ACCEPT"],
        ["-A", "NETLOOM-FORWARD", "-d", "10.245.0.0/16", "-j", "ACCEPT"],
        ["-D", "NETLOOM-FORWARD", "2"],
        ["-D", "NETLOOM-FORWARD", "1"],
    ]


def test_the_jump_moves_to_dockers_chain_when_docker_comes() -> None:
    listing = (*OPEN, "-N DOCKER-USER", "-A FORWARD -j DOCKER-USER")
    assert list(commands(listing, [POOL])) == [
        ["-I", "DOCKER-USER", "1", "-j", "NETLOOM-FORWARD"],
        ["-D", "FORWARD", "-j", "NETLOOM-FORWARD"],
    ]


def test_dockers_chain_does_not_count_when_nothing_goes_through_it() -> None:
    assert ["-I", "FORWARD", "1", "-j", "NETLOOM-FORWARD"] in list(commands((*DROPPING, "-N DOCKER-USER"), [POOL]))


def test_a_second_jump_is_taken_away() -> None:
    assert list(commands((*OPEN, "-A FORWARD -j NETLOOM-FORWARD"), [POOL])) == [["-D", "FORWARD", "-j", "NETLOOM-FORWARD"]]


def test_without_pools_nothing_of_ours_stays() -> None:
    assert list(commands(OPEN, [])) == [
        ["-D", "FORWARD", "-j", "NETLOOM-FORWARD"],
        ["-F", "NETLOOM-FORWARD"],
        ["-X", "NETLOOM-FORWARD"],
    ]


NOBODY_IN = ("-P INPUT DROP", "-P FORWARD ACCEPT", "-P OUTPUT ACCEPT")


def test_a_firewall_that_lets_nobody_in_gets_one_jump_to_a_chain_that_accepts_vxlan() -> None:
    assert list(commands(NOBODY_IN, [], [Outer(UDP, 4789)])) == [
        ["-N", "NETLOOM-INPUT"],
        ["-A", "NETLOOM-INPUT", "-p", "udp", "-m", "udp", "--dport", "4789", "-j", "ACCEPT"],
        ["-I", "INPUT", "1", "-j", "NETLOOM-INPUT"],
    ]


def test_what_nodes_ask_each_other_passes_by_tcp_too() -> None:
    asked = [Outer(TCP, 9478), Outer(UDP, 9478)]
    only_tcp = (*NOBODY_IN, "-A INPUT -p tcp -m tcp --dport 9478 -j ACCEPT")
    accepts = [["-A", "NETLOOM-INPUT", "-p", name, "-m", name, "--dport", "9478", "-j", "ACCEPT"] for name in ("tcp", "udp")]
    for listing in (NOBODY_IN, only_tcp):
        assert list(commands(listing, [], asked))[1:3] == accepts
    assert list(commands((*only_tcp, "-A INPUT -p udp -m udp --dport 9478 -j ACCEPT"), [], asked)) == []
    assert [str(one) for one in asked] == ["TCP port 9478", "UDP port 9478"]


@pytest.mark.parametrize("name", ["ipencap", "4"])
def test_ip_in_ip_is_known_by_name_or_number(name: str) -> None:
    listing = (*NOBODY_IN, "-N NETLOOM-INPUT", "-A INPUT -j NETLOOM-INPUT", f"-A NETLOOM-INPUT -p {name} -j ACCEPT")
    assert list(commands(listing, [], [Outer(IPIP)])) == []
    assert list(commands(NOBODY_IN, [], [Outer(IPIP)]))[1] == ["-A", "NETLOOM-INPUT", "-p", "4", "-j", "ACCEPT"]
    assert list(commands((*NOBODY_IN, f"-A INPUT -p {name} -j ACCEPT"), [], [Outer(IPIP)])) == []


def test_without_tunnels_that_passage_goes() -> None:
    listing = (
        *NOBODY_IN,
        "-N NETLOOM-INPUT",
        "-A INPUT -j NETLOOM-INPUT",
        "-A NETLOOM-INPUT -p udp -m udp --dport 4789 -j ACCEPT",
    )
    assert list(commands(listing, [], [Outer(UDP, 4789)])) == []
    assert list(commands(listing, [])) == [
        ["-D", "INPUT", "-j", "NETLOOM-INPUT"],
        ["-F", "NETLOOM-INPUT"],
        ["-X", "NETLOOM-INPUT"],
    ]
