"""Which connections are forgotten with an address: entries made and listed by `conntrack`, flushed by us."""

from __future__ import annotations

import ipaddress
import subprocess

import pytest

from netloom.dataplane import conntrack
from netloom.model.desired import Published

pytestmark = pytest.mark.usefixtures("node")

POD, OTHER, SERVICE, HOST, AWAY = "10.244.0.2", "10.244.0.3", "10.96.0.10", "192.0.2.1", "198.51.100.7"
POD6, OTHER6, SERVICE6, HOST6, AWAY6 = "fd00:10:244::2", "fd00:10:244::3", "fd00:10:96::a", "2001:db8::1", "2001:db8:ff::7"


def remember(client: str, server: str, *, answers: str | None = None, answered: str | None = None, port: int = 5000) -> None:
    """A connection from client to server, answered by `answers` towards `answered`, where NAT changes those."""
    reply = ("--reply-src", answers or server, "--reply-dst", answered or client)
    ports = ("-p", "udp", "--sport", str(port), "--dport", "53")
    ports += ("--reply-port-src", "53", "--reply-port-dst", str(port), "-t", "600")
    subprocess.run(["conntrack", "-I", "-s", client, "-d", server, *reply, *ports], check=True, capture_output=True)


def remembered() -> list[str]:
    """Client and server of each entry."""
    lines: list[str] = []
    for family in ("ipv4", "ipv6"):
        done = subprocess.run(["conntrack", "-L", "-f", family], capture_output=True, text=True, check=True)
        lines += done.stdout.splitlines()
    words = [[word.split("=")[1] for word in line.split() if word.startswith(("src=", "dst="))] for line in lines]
    return sorted(f"{client} {server}" for client, server, *_ in words)


def flush(*addresses: str) -> int:
    return conntrack.flush([ipaddress.ip_address(address) for address in addresses])


def test_with_no_entries_there_is_nothing_to_do() -> None:
    assert flush(POD, POD6) == 0


def test_a_kernel_without_conntrack_is_not_made_to_load_it(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(conntrack, "_COUNT", tmp_path / "nf_conntrack_count")
    monkeypatch.setattr(conntrack, "Nfnetlink", None)
    assert flush(POD) == 0


@pytest.mark.parametrize(
    ("dead", "other", "service", "host", "away"),
    [(POD, OTHER, SERVICE, HOST, AWAY), (POD6, OTHER6, SERVICE6, HOST6, AWAY6)],
    ids=("IPv4", "IPv6"),
)
def test_every_connection_of_the_address_is_forgotten_and_no_other(
    dead: str, other: str, service: str, host: str, away: str
) -> None:
    remember(dead, away)
    remember(away, dead)
    remember(dead, away, answered=host, port=5001)  # masqueraded
    remember(other, service, answers=dead)  # behind a service's address
    remember(away, host, answers=dead, answered=host)  # through a node's port, both ways translated
    remember(other, away)
    remember(away, host, answers=other, answered=host, port=5001)
    assert flush(dead) == 5
    assert remembered() == sorted((f"{other} {away}", f"{away} {host}"))
    assert flush(dead) == 0


def test_one_reading_serves_addresses_of_both_families() -> None:
    for number in range(300):
        remember(POD if number % 2 else OTHER, AWAY, port=5000 + number)
    remember(POD6, AWAY6)
    remember(OTHER6, AWAY6)
    assert flush(POD, POD6) == 151
    assert remembered() == sorted([f"{OTHER} {AWAY}"] * 150 + [f"{OTHER6} {AWAY6}"])


def test_an_address_that_only_looks_alike_keeps_its_connections() -> None:
    """The bytes of 10.244.0.2 stand inside this IPv6 address."""
    remember("fd00::af4:2", AWAY6)
    assert flush(POD) == 0
    assert remembered() == [f"fd00::af4:2 {AWAY6}"]


def published(pod: str, host: str | None = None, *, protocol: str = "udp", port: int = 53) -> Published:
    address, where = ipaddress.ip_address(pod), ipaddress.ip_address(host) if host else None
    return Published(protocol, where, port, address, 5353, "loom0", ipaddress.ip_network(address))


@pytest.mark.parametrize(
    ("pod", "other", "host", "away"), [(POD, OTHER, HOST, AWAY), (POD6, OTHER6, HOST6, AWAY6)], ids=("IPv4", "IPv6")
)
@pytest.mark.parametrize("more", [0, 1000])
def test_clients_of_a_port_are_forgotten_where_they_are_led_elsewhere(
    pod: str, other: str, host: str, away: str, more: int
) -> None:
    for words in ("set lo up", f"add {host} dev lo nodad" if ":" in host else f"add {host} dev lo"):
        subprocess.run(["ip", "link" if "up" in words else "address", *words.split()], check=True)
    remember(away, host)  # to the host itself
    remember(away, host, answers=other, port=5001)  # to the pod before
    remember(away, host, answers=pod, port=5002)  # where it should
    remember(other, away)  # somebody else's name server
    remember(away, other)
    ports = [published(pod), *(published(pod, port=1000 + number) for number in range(more))]
    assert conntrack.flush_ports(ports) == 2
    assert remembered() == sorted((f"{away} {host}", f"{other} {away}", f"{away} {other}"))


def test_a_port_of_one_address_is_forgotten_there_only() -> None:
    for address in (HOST, "192.0.2.2"):
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
        remember(AWAY, address)
    assert conntrack.flush_ports([published(POD, HOST, protocol="tcp"), published(POD, HOST, port=54)]) == 0
    assert conntrack.flush_ports([published(POD, HOST), published(POD, HOST, protocol="sctp")]) == 1
    assert remembered() == [f"{AWAY} 192.0.2.2"]
