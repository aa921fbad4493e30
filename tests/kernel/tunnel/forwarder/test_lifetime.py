"""A forwarder's life: it is nobody, it is followed by another without losing a packet, it is killed, and it is told things."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane import netns, tun
from netloom.errors import DataplaneError
from netloom.model.addresses import parse_address, parse_prefix
from netloom.tunnel.forwarder import messages
from netloom.tunnel.forwarder.client import Client
from tests.kernel.tunnel.forwarder.carrying import Numbers, answered, udp_pair
from tests.kernel.tunnel.forwarder.conftest import Pair
from tests.pure.tunnel.forwarder.reference import UDP, Flow
from tests.tunnel_pair import NUMPY, PLAIN, PORT, Node, ip


def status(node: Node) -> dict[str, str]:
    lines = Path(f"/proc/{node.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_it_has_no_privileges(forwarders: Pair) -> None:
    for node in forwarders:
        found = status(node)
        assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert found["NoNewPrivs"] == "1"
        assert set(found["Uid"].split()) == {"65534"}
        assert found["Groups"] == ""


def test_a_successor_takes_over_and_no_packet_is_lost(forwarders: Pair) -> None:
    a, b = forwarders
    with udp_pair(a, b, b.pod_addresses[0]) as there, udp_pair(b, a, a.pod_addresses[1]) as back:
        flows = [Numbers(*there), Numbers(*back)]
        for flow in flows:
            flow.start()
        pids = set()
        for command in (PLAIN, NUMPY):
            for node in (a, b):
                flows[0].wait_for(100)
                before = node.state(peers=True)
                after = node.forward(command)
                assert before is not None
                assert after.number == before.number
                assert after.tunnels == before.tunnels
                assert after.peers == [] and before.peers[0].sent > 0
                again = node.state(peers=True)
                assert again is not None
                assert again.peers[0].sent >= before.peers[0].sent
                pids |= {before.pid, after.pid}
        flows[0].wait_for(100)
        for flow in flows:
            flow.stop()
        assert len(pids) == 6
        assert flows[0].sent > 500
        assert [flow.lost for flow in flows] == [set(), set()]


def test_a_successor_may_have_another_port(forwarders: Pair) -> None:
    a, b = forwarders
    before = a.state()
    other = a.forward(port=8286)
    assert before is not None
    assert (other.port, other.tunnels, other.number) == (8286, before.tunnels, before.number)
    assert a.forward().port == 8285
    assert answered(a, b.pod_addresses[0], 56)


def test_a_successor_that_fails_has_changed_nothing(forwarders: Pair) -> None:
    a, b = forwarders
    before = a.pid
    with Client(a.control) as client:
        _, descriptors = client.succeed(0)
        for fd in descriptors:
            os.close(fd)
    assert answered(a, b.pod_addresses[0], 56)
    assert a.pid == before


def test_killed_it_leaves_device_addresses_and_routes(forwarders: Pair) -> None:
    a, b = forwarders

    def shown() -> str:
        with netns.entered(a.netns):
            found = subprocess.run(
                ["ip", "-o", "address", "show", "loom.udp"], capture_output=True, text=True, check=True
            ).stdout
            for family in ("-4", "-6"):
                command = ["ip", family, "route", "show", "dev", "loom.udp"]
                found += subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return found.replace(" linkdown", "")

    before = shown()
    a.end(signal.SIGKILL)
    assert shown() == before
    assert a.state() is None
    a.forward()
    assert shown() == before
    for address in b.pod_addresses:
        assert answered(a, address, 1400)


def test_it_ends_when_its_device_is_taken_away(forwarders: Pair) -> None:
    _, b = forwarders
    with netns.entered(b.netns):
        subprocess.run(["ip", "link", "delete", "loom.udp"], check=True)
    process = b.processes[-1]
    assert process.wait(30) == 3
    with netns.entered(b.netns):
        tun.create("loom.udp")
    b.configure()
    b.forward()
    assert answered(b, b.other.pod_addresses[0], 56)


def test_it_is_told_changes_and_says_what_it_knows(forwarders: Pair) -> None:
    a, b = forwarders
    more = {parse_prefix(f"10.{n // 256}.{n % 256}.0/24"): parse_address(f"198.18.{n // 256}.{n % 256}") for n in range(1000)}
    with Client(a.control) as client:
        number = client.state().number
        assert client.change(put=more, believe=dict.fromkeys(more.values())) == number + 1
        assert (client.state().tunnels, client.state().senders) == (1004, 1001)
        read = client.read()
        assert read.tunnels["10.3.7.0/24"] == "198.18.3.7"
        assert answered(a, b.pod_addresses[0], 56)
        client.change(delete=more.keys(), disbelieve=set(more.values()))
        assert (client.state().tunnels, client.state().senders) == (4, 1)


@pytest.mark.parametrize(
    "sent",
    [b"\0\0\0\5hello", b"\xff\xff\xff\xff", b'\0\0\0\x0f{"do": "Nobody"}', b'\0\0\0\x12{"do":"Succeeded"}', b"\0"],
)
def test_nonsense_on_its_socket_costs_the_connection_only(forwarders: Pair, sent: bytes) -> None:
    a, b = forwarders
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(a.control)
        connection.send(sent)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(20)
        while connection.recv(4096):
            continue
    assert answered(a, b.pod_addresses[0], 56)
    with Client(a.control) as client, pytest.raises(DataplaneError, match="host bits"):
        client._ask(messages.Change(put={"10.244.0.1/16": "192.0.2.2"}), messages.Done)  # host bits: refused with the reason


def test_others_than_root_are_not_heard(forwarders: Pair) -> None:
    a, _ = forwarders
    assert os.stat(a.control).st_mode & 0o777 == 0o600


def test_one_that_cannot_start_says_why_and_leaves_nothing(forwarders: Pair) -> None:
    a, _ = forwarders
    before = set(os.listdir(os.path.dirname(a.control)))
    words = [*NUMPY, "forwarder", "--device", "loom.other", "--local", a.address, "--run-dir", os.path.dirname(a.control)]
    with netns.entered(a.netns):
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"UDP {a.address} port 8285: cannot be bound: Address already in use" in done.stderr
    assert set(os.listdir(os.path.dirname(a.control))) == before


def test_told_to_stop_it_ends(forwarders: Pair) -> None:
    a, b = forwarders
    with Client(a.control) as client:
        client.stop()
    assert a.processes[-1].wait(30) == 0
    a.forward()
    assert answered(a, b.pod_addresses[0], 56)


def test_it_takes_datagrams_in_by_another_address_for_as_long_as_it_is_told(forwarders: Pair) -> None:
    a, b = forwarders
    other = "192.0.2.102"
    with netns.entered(b.netns):
        ip(f"address add {other}/24 dev up0")
    with udp_pair(a, b, b.pod_addresses[0]) as (_, receiver), netns.entered(a.netns):
        ends = a.pod_addresses[0], b.pod_addresses[0]
        flow = Flow(4, UDP, b"to the other one", target_port=receiver.getsockname()[1], addresses=ends)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((a.address, 0))
            for target, also in ((other, [other]), (b.address, [other]), (b.address, [])):
                assert b.forward(also=also).also == also
                sender.sendto(flow.packet(), (target, PORT))
                assert receiver.recv(100) == b"to the other one"
    with netns.entered(b.netns):
        ip(f"address del {other}/24 dev up0")
    assert answered(a, b.pod_addresses[0], 56)
