"""Published ports: where a connection to the host's port ends, and whom it is seen from; who is refused; what stays."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from netloom.dataplane import netns
from netloom.datastore import Datastore, connect
from netloom.model.resources import Endpoint
from tests.agent_process import ADDRESSES, Machine, Sandbox
from tests.cni_calls import CONFIG, KUBERNETES, Answer, Document, Runtime
from tests.kernel import frames
from tests.residue import baseline, settled
from tests.waiting import eventually

WIRINGS = ("routed", "bridge")
HOST4, HOST6 = (str(address.ip) for address in ADDRESSES)
OUTSIDE4, OUTSIDE6 = "192.168.77.2", "fd00:77::2"
PATIENCE = 10.0
"""Seconds for an answer.  Where there is none, a host says so at once."""


def publishing(*ports: Document, wiring: str = "routed") -> Document:
    return CONFIG | {"wiring": wiring, "runtimeConfig": {"portMappings": list(ports)}}


def port(host: int, container: int = 80, protocol: str = "tcp", where: str = "") -> Document:
    return {"hostPort": host, "containerPort": container, "protocol": protocol, "hostIP": where}


@contextmanager
def attached(runtime: Runtime, sandbox: Sandbox, config: Document, **call: Any) -> Iterator[Answer]:
    answer = runtime("ADD", sandbox, config, **call)
    assert answer.ok, answer
    try:
        yield answer
    finally:
        assert runtime("DEL", sandbox, config, **call).ok


def own(answer: Answer, version: int) -> str:
    """The pod's address."""
    return answer.addresses[0 if version == 4 else 1].partition("/")[0]


@contextmanager
def answering(place: int, number: int = 80, protocol: str = "tcp", name: str = "pod") -> Iterator[None]:
    """Who asks is told `NAME CLIENT`; a connection goes on until the client closes it."""
    with ExitStack() as stack:
        with netns.entered(place):
            kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
            server = stack.enter_context(socket.socket(socket.AF_INET6, kind))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("::", number))
        if protocol == "tcp":
            server.listen()
        serve = _accept if protocol == "tcp" else _receive
        thread = threading.Thread(target=serve, args=(server, name), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(2)


def _accept(server: socket.socket, name: str) -> None:
    with suppress(OSError):
        while True:
            connection, client = server.accept()
            threading.Thread(target=_serve, args=(connection, f"{name} {_plain(client[0])}"), daemon=True).start()


def _serve(connection: socket.socket, answer: str) -> None:
    with connection, suppress(OSError):
        while connection.recv(100):
            connection.sendall(answer.encode())


def _receive(server: socket.socket, name: str) -> None:
    with suppress(OSError):
        while True:
            data, client = server.recvfrom(100)
            if not data:
                return
            server.sendto(f"{name} {_plain(client[0])}".encode(), client)


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


def client_in(place: int, target: str, protocol: str = "tcp") -> socket.socket:
    with netns.entered(place):
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    made.settimeout(PATIENCE)
    return made


def ask(client: socket.socket) -> str:
    """Who answered, and whom he saw; empty where nobody did.  Answers to what was asked before are none."""
    if client.type == socket.SOCK_DGRAM:
        _forget_answers(client)
    try:
        client.sendall(b"?")
        return client.recv(100).decode()
    except OSError:
        return ""


def _forget_answers(client: socket.socket) -> None:
    patience = client.gettimeout()
    client.setblocking(False)
    with suppress(OSError):
        while True:
            client.recv(100)
    client.settimeout(patience)


def asked(place: int, target: str, number: int, protocol: str = "tcp") -> str:
    with client_in(place, target, protocol) as client:
        try:
            client.connect((target, number))
        except OSError:
            return ""
        return ask(client)


def nft(machine: Machine, words: str) -> str:
    with netns.entered(machine.netns):
        return subprocess.run(["nft", *words.split()], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_port_leads_to_the_pod_from_everywhere(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, wiring: str, protocol: str
) -> None:
    config = publishing(port(8080, protocol=protocol), wiring=wiring)
    with ExitStack() as stack:
        one = stack.enter_context(attached(runtime, sandbox, config))
        two = stack.enter_context(attached(runtime, other, CONFIG | {"wiring": wiring}))
        with answering(sandbox.netns, 80, protocol):
            for version, host, outside in ((4, HOST4, OUTSIDE4), (6, HOST6, OUTSIDE6)):
                assert asked(machine.outside, host, 8080, protocol) == f"pod {outside}"
                assert asked(machine.netns, host, 8080, protocol) == f"pod {host}"
                # what would be answered on a shorter way is seen from the host
                assert asked(sandbox.netns, host, 8080, protocol) not in ("", f"pod {own(one, version)}")
                beside = asked(other.netns, host, 8080, protocol)
                assert beside == f"pod {own(two, version)}" if wiring == "routed" else beside not in ("", own(two, version))
            assert asked(machine.netns, "127.0.0.1", 8080, protocol).startswith("pod ")
            assert asked(machine.netns, "127.0.0.1", 8080, protocol) != "pod 127.0.0.1"
    assert asked(machine.outside, HOST4, 8080, protocol) == ""
    assert asked(machine.netns, "127.0.0.1", 8080, protocol) == ""


def test_a_port_of_one_address_is_no_port_of_another(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    ports = [port(8081, where="127.0.0.1"), port(8082, where=HOST4), port(8083, where="0.0.0.0"), port(8084, where="::")]
    with attached(runtime, sandbox, publishing(*ports, port(8085, where=HOST6))), answering(sandbox.netns):
        reached = {
            number: [
                bool(asked(place, target, number))
                for place, target in (
                    (machine.netns, "127.0.0.1"),
                    (machine.netns, HOST4),
                    (machine.outside, HOST4),
                    (machine.outside, HOST6),
                )
            ]
            for number in range(8081, 8086)
        }
    assert reached == {
        8081: [True, False, False, False],
        8082: [False, True, True, False],
        8083: [True, True, True, False],
        8084: [False, False, False, True],
        8085: [False, False, False, True],
    }


def test_what_is_published_elsewhere_and_what_is_not_published_goes_on_to_the_host(
    runtime: Runtime, machine: Machine, sandbox: Sandbox
) -> None:
    with attached(runtime, sandbox, publishing(port(8080), port(8081, where="127.0.0.1"))):
        with answering(machine.netns, 8081, name="host"), answering(machine.netns, 8082, name="host"):
            assert asked(machine.outside, HOST4, 8081) == f"host {OUTSIDE4}"
            assert asked(machine.outside, HOST6, 8082) == f"host {OUTSIDE6}"
        with answering(machine.netns, 8080, name="host"):
            assert asked(machine.netns, "::1", 8080) == "host ::1"  # which cannot lead to a pod


def test_a_pods_connections_to_others_ports_are_its_own(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    """Only what goes to an address of this host is looked up."""
    with attached(runtime, sandbox, publishing(port(8080))) as answer, answering(machine.outside, 8080, name="away"):
        assert asked(sandbox.netns, OUTSIDE4, 8080).startswith("away")
        assert asked(machine.netns, OUTSIDE4, 8080) == f"away {HOST4}"
        with netns.entered(machine.outside):
            subprocess.run(["ip", "route", "add", own(answer, 4), "via", HOST4], check=True)
        try:
            assert asked(machine.outside, own(answer, 4), 8080) == ""
        finally:
            with netns.entered(machine.outside):
                subprocess.run(["ip", "route", "del", own(answer, 4)], check=True)


def test_no_packet_for_127_comes_in_by_another_interface(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    """CVE-2020-8558; `route_localnet` on the uplink shows that it is the rule that holds."""
    setting = "/proc/sys/net/ipv4/conf/eth0/route_localnet"
    with ExitStack() as stack:
        with netns.entered(machine.netns):
            server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind(("127.0.0.1", 9999))
        with netns.entered(machine.outside):
            wire = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
            wire.bind(("eth0", 0))

        def arrives(source: str, patience: float) -> bool:
            server.settimeout(patience)
            datagram = frames.ipv4(source, "127.0.0.1", frames.UDP, frames.udp(9999, b"evil"))
            wire.send(frames.ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", frames.IPV4, datagram))
            try:
                return server.recv(10) == b"evil"
            except TimeoutError:
                return False

        with netns.entered(machine.netns), open(setting, "w", encoding="ascii") as file:
            file.write("1")
        try:
            assert arrives(OUTSIDE4, PATIENCE)
            with attached(runtime, sandbox, publishing(port(8080))):
                assert not arrives(OUTSIDE4, 0.3)
        finally:
            with netns.entered(machine.netns), open(setting, "w", encoding="ascii") as file:
                file.write("0")


@pytest.mark.parametrize("wiring", WIRINGS)
def test_the_way_from_loopback_is_open_only_where_a_port_needs_it(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, wiring: str
) -> None:
    def opened() -> set[str]:
        with netns.entered(machine.netns):
            shown = subprocess.run(["sysctl", "-ar", "route_localnet"], capture_output=True, text=True, check=True).stdout
        return {line.split(" = ")[0].removeprefix("net.ipv4.conf.") for line in shown.splitlines() if line.endswith("1")}

    with attached(runtime, other, publishing(port(8081, where=HOST4), wiring=wiring)):
        assert opened() == set()
        with attached(runtime, sandbox, publishing(port(8080), wiring=wiring)) as answer:
            host = answer.document["interfaces"][0]["name"]
            way = host if wiring == "routed" else "loom/br0"
            assert opened() == {f"{way}.route_localnet"}
        assert opened() == set()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (port(8080), port(8080, 81)),
        (port(8080), port(8080, where=HOST4)),
        (port(8080, where=HOST6), port(8080, where="::")),
        (port(8080, where="127.0.0.1"), port(8080)),
        (port(8080, protocol="udp", where="0.0.0.0"), port(8080, protocol="UDP", where="127.0.0.1")),
    ],
)
def test_a_port_that_another_has_is_refused_by_its_name(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, first: Document, second: Document
) -> None:
    with attached(runtime, sandbox, publishing(first), args=KUBERNETES):
        before = baseline(machine)
        answer = runtime("ADD", other, publishing(port(8079), second))
        assert answer.error == 102
        assert "8080" in answer.document["msg"] and "shop/web-0" in answer.document["msg"]
        assert "network net" in answer.document["msg"]
        assert settled(machine, before) == []


def test_ports_that_differ_in_anything_are_different_ports(runtime: Runtime, sandbox: Sandbox, other: Sandbox) -> None:
    first = publishing(port(8080), port(53, protocol="udp"), port(8081, where=HOST4), port(8082, where="0.0.0.0"))
    second = publishing(port(8080, protocol="udp"), port(53), port(8081, where="127.0.0.1"), port(8082, where="::"))
    with attached(runtime, sandbox, first), attached(runtime, other, second):
        pass


def test_without_the_family_a_port_is_free_in_it(runtime: Runtime, sandbox: Sandbox, other: Sandbox) -> None:
    first, second = publishing(port(8080)) | {"ipv6Pools": []}, publishing(port(8080, where="::"))
    with attached(runtime, sandbox, first), attached(runtime, other, second):
        pass


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        (port(8080, where="203.0.113.9"), "no address 203.0.113.9"),
        (port(8080, where="::ffff:203.0.113.9"), "no IPv6 address"),
        (port(8080, where="::"), "no IPv6 address"),
        (port(8080, where="localhost"), "hostIP"),
        (port(8080, where="::1"), "::1"),
        (port(8080, 0), "containerPort"),
        (port(8080, protocol="icmp"), "protocol"),
    ],
)
def test_a_port_that_cannot_be_had_is_refused_and_nothing_changes(
    either: Runtime, machine: Machine, sandbox: Sandbox, mapping: Document, words: str
) -> None:
    before = baseline(machine)
    answer = either("ADD", sandbox, publishing(port(8079), mapping) | {"ipv6Pools": []})
    assert answer.error == 7
    assert "portMappings" in answer.document["msg"] and words in answer.document["msg"]
    assert settled(machine, before) == []


def test_a_port_is_free_as_soon_as_its_del_is_answered(runtime: Runtime, sandbox: Sandbox, other: Sandbox) -> None:
    for one in (sandbox, other, sandbox):
        with attached(runtime, one, publishing(port(8080, protocol="udp"))):
            pass


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("host", [HOST4, HOST6])
def test_clients_of_udp_follow_the_port(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, wiring: str, host: str
) -> None:
    """One socket, which never stops asking: first nobody is there, then one pod, then another."""
    config = publishing(port(8080, protocol="udp"), wiring=wiring)
    with client_in(machine.outside, host, "udp") as client:
        client.connect((host, 8080))
        client.settimeout(0.1)
        assert ask(client) == ""
        with answering(machine.netns, 8080, "udp", "host"):
            assert eventually(lambda: ask(client).startswith("host"))
        for one in (sandbox, other):
            with attached(runtime, one, config), answering(one.netns, 80, "udp", one.container_id):
                assert eventually(lambda name=one.container_id: ask(client).startswith(name))
            assert ask(client) == ""


def test_others_datagrams_are_not_forgotten(runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox) -> None:
    """A name server outside and one in a pod: what is tracked to the first stays."""

    def tracked() -> str:
        with netns.entered(machine.netns):
            listing = ["conntrack", "-L", "-p", "udp", "--dport", "53", "-o", "id"]
            return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.rpartition("id=")[2]

    with ExitStack() as stack:
        stack.enter_context(attached(runtime, other, CONFIG))
        stack.enter_context(answering(machine.outside, 53, "udp", "away"))
        client = stack.enter_context(client_in(other.netns, OUTSIDE4, "udp"))
        client.connect((OUTSIDE4, 53))
        assert ask(client).startswith("away")
        before = tracked()
        with attached(runtime, sandbox, publishing(port(53, 53, "udp"))):
            assert before and tracked() == before


def test_check_sees_a_port_that_leads_nowhere(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    config = publishing(port(8080))
    with attached(runtime, sandbox, config) as answer:
        assert runtime("CHECK", sandbox, config, result=answer.document).ok

        def refusal() -> Answer | None:  # none where a pass was faster
            nft(machine, "flush map inet netloom-ports any4")
            checked = runtime("CHECK", sandbox, config, result=answer.document)
            return None if checked.ok else checked

        refused = eventually(refusal)
        assert refused is not None
        assert refused.error == 103 and "8080:80/tcp" in refused.document["details"]
        assert eventually(lambda: runtime("CHECK", sandbox, config, result=answer.document).ok)


@pytest.mark.parametrize(
    "act",
    [
        "flush ruleset",
        "delete table inet netloom-ports",
        "flush chain inet netloom-ports published",
        "flush map inet netloom-ports any4",
        "delete table inet netloom",
    ],
)
def test_whoever_takes_the_rules_away_finds_them_again(runtime: Runtime, machine: Machine, sandbox: Sandbox, act: str) -> None:
    with attached(runtime, sandbox, publishing(port(8080))), answering(sandbox.netns):
        before = nft(machine, "-s list ruleset")
        nft(machine, act)
        assert eventually(lambda: sorted(nft(machine, "-s list ruleset")) == sorted(before))
        assert asked(machine.outside, HOST4, 8080) == f"pod {OUTSIDE4}"


def test_a_port_that_is_added_while_the_rules_are_gone_is_served_or_refused(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox
) -> None:
    with attached(runtime, other, publishing(port(8081))), answering(other.netns):
        nft(machine, "delete table inet netloom-ports")
        with attached(runtime, sandbox, publishing(port(8080))), answering(sandbox.netns):
            assert asked(machine.outside, HOST4, 8080) == f"pod {OUTSIDE4}"
            assert eventually(lambda: asked(machine.outside, HOST4, 8081) == f"pod {OUTSIDE4}")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_connections_live_through_the_agents_restart(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox, number: str
) -> None:
    with attached(runtime, sandbox, publishing(port(8080))), answering(sandbox.netns):
        with client_in(machine.outside, HOST4) as client, client_in(machine.netns, "127.0.0.1") as own_client:
            client.connect((HOST4, 8080))
            own_client.connect(("127.0.0.1", 8080))
            handles = nft(machine, "-a list table inet netloom-ports")
            machine.end(signal.Signals[number])
            assert ask(client) and ask(own_client)
            assert asked(machine.outside, HOST6, 8080) == f"pod {OUTSIDE6}"
            machine.start()
            assert ask(client) and ask(own_client)
            assert nft(machine, "-a list table inet netloom-ports") == handles  # what stood was right
        assert runtime("ADD", other, publishing(port(8080))).error == 102


def test_a_pod_that_goes_while_the_agent_is_away_takes_its_ports_along(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox
) -> None:
    config = publishing(port(8080, protocol="udp"))
    assert runtime("ADD", sandbox, config).ok
    machine.end()
    assert runtime("DEL", sandbox, config).ok
    machine.start()
    with attached(runtime, other, config), answering(other.netns, 80, "udp"):
        assert asked(machine.outside, HOST4, 8080, "udp") == f"pod {OUTSIDE4}"


def test_gc_takes_the_ports_of_the_dead(runtime: Runtime, machine: Machine, other: Sandbox) -> None:
    dying = machine.make_mortal()
    assert runtime("ADD", dying, publishing(port(8080))).ok
    machine.remove_sandbox(dying)
    gone = CONFIG | {"cni.dev/valid-attachments": []}

    def collected() -> bool:  # it is dead for a collection only once the kernel has taken its links
        return runtime("GC", other, gone).ok and dying.container_id not in {a.container_id for a in machine.state().attachments}

    assert eventually(collected)
    assert "netloom-ports" not in nft(machine, "list tables")
    with attached(runtime, other, publishing(port(8080))):
        pass


def test_a_thousand_ports_of_one_pod(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    """A range, as runtimes write it: one mapping for each port."""
    ports = [port(20000 + number, 80, "tcp") for number in range(1000)]
    with attached(runtime, sandbox, publishing(*ports)), answering(sandbox.netns):
        for number in (20000, 20500, 20999):
            assert asked(machine.outside, HOST4, number) == f"pod {OUTSIDE4}"


@pytest.mark.parametrize("wiring", WIRINGS)
def test_a_firewall_that_drops_what_is_forwarded_lets_it_through(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, wiring: str
) -> None:
    drops = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"
    with netns.entered(machine.netns):
        subprocess.run(["nft", "-f", "-"], input=drops, text=True, check=True)
    try:
        with attached(runtime, sandbox, publishing(port(8080), wiring=wiring)), answering(sandbox.netns):
            assert eventually(lambda: asked(machine.outside, HOST4, 8080) == f"pod {OUTSIDE4}")
            assert asked(machine.netns, "127.0.0.1", 8080)
            assert asked(sandbox.netns, HOST4, 8080)
    finally:
        nft(machine, "delete table ip filter")


def test_who_publishes_nothing_has_no_chain_for_it(runtime: Runtime, machine: Machine, sandbox: Sandbox) -> None:
    with attached(runtime, sandbox, publishing(port(0))):
        assert "netloom-ports" not in nft(machine, "list tables")


def test_ports_outlive_a_lost_journal_and_the_cluster_sees_them(
    runtime: Runtime, machine: Machine, sandbox: Sandbox, other: Sandbox
) -> None:
    ports = [port(8080), port(53, 5353, "udp", "127.0.0.1"), port(8081, where="::")]
    with attached(runtime, sandbox, publishing(*ports)), attached(runtime, other, publishing(port(8082))):
        before = nft(machine, "-s list table inet netloom-ports")
        machine.end(signal.SIGKILL)
        os.unlink(f"{machine.run_dir}/journal")
        machine.start()
        assert sorted(nft(machine, "-s list table inet netloom-ports")) == sorted(before)
        datastore = connect(machine.datastore)
        try:
            assert eventually(
                lambda: shown(datastore) == {"127.0.0.1:53:5353/udp", "8080:80/tcp", "[::]:8081:80/tcp", "8082:80/tcp"}
            )
        finally:
            datastore.close()


def shown(datastore: Datastore) -> set[str]:
    found = (stored.resource for stored in datastore.list("Endpoint").items)
    return {str(port) for endpoint in found if isinstance(endpoint, Endpoint) for port in endpoint.spec.ports}
