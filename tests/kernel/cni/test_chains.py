"""Debian's plugins chained behind ours and before it, as a conflist has them: what we answer is what they need, and their changes are no
damage.  What does not go together is in docs/chaining.md.

Points 36, 40, 47, 54, 62 of the CNI checklist.  A machine of its own: `portmap` leaves its own empty chains behind for good.
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from netloom.dataplane import netns
from tests.agent_process import PATIENT, Machine, Sandbox, running_machine
from tests.cni_calls import NATIVE, OTHERS, Chain, Document
from tests.residue import quiet_residue, settled

Plugin = tuple[str, Document]

PORTMAP: Plugin = (f"{OTHERS}/portmap", {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}})
BANDWIDTH: Plugin = (f"{OTHERS}/bandwidth", {"type": "bandwidth", "capabilities": {"bandwidth": True}})
FIREWALL: Plugin = (f"{OTHERS}/firewall", {"type": "firewall", "backend": "iptables"})
LOOPBACK: Plugin = (f"{OTHERS}/loopback", {"type": "loopback"})
LIMITED: Document = {"capabilities": {"bandwidth": True}}
PUBLISHING: Document = {"capabilities": {"portMappings": True}}
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
RATES = {"bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 100_000, "egressRate": 1_000_000, "egressBurst": 100_000}}
VERSIONS = ("0.4.0", "1.0.0")
MORE: Document = {}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running_machine(command=PATIENT) as made:
        yield made


def tuning(machine: Machine, **more: object) -> Plugin:
    config = {"type": "tuning", "mtu": 1300, "dataDir": f"{machine.folder}/tuning", **more}
    return f"{OTHERS}/tuning", config | {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}


@contextmanager
def chained(
    machine: Machine,
    sandbox: Sandbox,
    plugins: Sequence[Plugin],
    version: str,
    wiring: str,
    runtime_config: Document,
    *,
    before: Sequence[Plugin] = (),
    more: Document = MORE,
) -> Iterator[Chain]:
    """Attached, CHECKed, and detached as containerd does it: twice, and the second time without the result.  Nothing is left.

    `more`: of our own configuration.  Plugins that stand before us are not CHECKed: see docs/chaining.md."""
    ours = (NATIVE, {"type": "netloom", "wiring": wiring, **more})
    with netns.entered(machine.netns):
        chain = Chain(machine.run_dir, [*before, ours, *plugins], sandbox.container_id, sandbox.path, version, runtime_config)
        warm = chain.add()  # the chains that `portmap` keeps come now
        assert warm.ok and chain.delete().ok, warm
        before = quiet_residue(machine)
        added = chain.add()
        assert added.ok, added
        # CHECK of portmap 1.1.1 looks for IPv6 rules that its ADD never makes, behind whichever plugin
        checked = replace(chain, plugins=[ours, *(plugin for plugin in plugins if plugin is not PORTMAP)]).check()
        assert checked.ok, checked
        yield chain
        assert chain.delete().ok
        assert chain.delete_without_result().ok
    assert settled(machine, before) == []


@pytest.fixture
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox() as made:
        yield made


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
@pytest.mark.parametrize("version", VERSIONS)
def test_portmap_leads_the_hosts_port_to_the_pod(machine: Machine, sandbox: Sandbox, version: str, wiring: str) -> None:
    with chained(machine, sandbox, [PORTMAP], version, wiring, PORTS), answering(sandbox, 80):
        assert asked(machine.outside, "192.168.77.1", 8080) == b"pod"


@pytest.mark.parametrize("both", [False, True], ids=["ours alone", "both"])
def test_the_port_is_ours_where_we_have_the_capability(machine: Machine, sandbox: Sandbox, both: bool) -> None:
    """Of two that lead it to the same pod ours comes first, and neither minds."""
    behind = PORTMAP if both else (PORTMAP[0], {"type": "portmap"})
    with chained(machine, sandbox, [behind], "1.0.0", "bridge", PORTS, more=PUBLISHING), answering(sandbox, 80):
        assert "tcp . 8080 : 10.244." in shown("nft list map inet netloom-ports any4")
        assert asked(machine.outside, "192.168.77.1", 8080) == b"pod"


def test_the_port_is_ours_where_portmap_stands_before_us(machine: Machine, sandbox: Sandbox) -> None:
    """It leads the port to the addresses that it was told of, which are the sandbox's loopback; ours comes first all the same."""
    before = [LOOPBACK, PORTMAP]
    with chained(machine, sandbox, [], "1.0.0", "routed", PORTS, before=before, more=PUBLISHING), answering(sandbox, 80):
        assert asked(machine.outside, "192.168.77.1", 8080) == b"pod"


@pytest.mark.parametrize("version", VERSIONS)
def test_tuning_changes_the_interface_and_our_check_still_passes(machine: Machine, sandbox: Sandbox, version: str) -> None:
    with chained(machine, sandbox, [tuning(machine, promisc=True, allmulti=True)], version, "routed", {}):
        with netns.entered(sandbox.netns):
            link = shown("ip -d link show eth0")
        assert all(words in link for words in ("mtu 1300", "promiscuity 1", "allmulti 1"))
        assert reaches_out(machine, sandbox)


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
def test_a_mac_that_tuning_alone_is_asked_for_cuts_the_pod_off_and_check_says_why(
    machine: Machine, sandbox: Sandbox, wiring: str
) -> None:
    """We are not told what plugins behind us will do, and a pod may send from its own MAC only."""
    ours = (NATIVE, {"type": "netloom", "wiring": wiring})
    plugins = [ours, tuning(machine, mac="0a:58:00:00:00:42")]
    before = quiet_residue(machine)
    with netns.entered(machine.netns):
        chain = Chain(machine.run_dir, plugins, sandbox.container_id, sandbox.path)
        added = chain.add()
        assert added.ok and added.document["interfaces"][1]["mac"] == "0a:58:00:00:00:42"
        assert not reaches_out(machine, sandbox, 0.3)
        checked = chain.check()
        assert checked.error == 103
        assert "gave it MAC 0a:58:00:00:00:42, and it may send from 0a:58:" in checked.document["details"]
        assert "capability mac" in checked.document["details"]
        assert chain.delete().ok
    assert settled(machine, before) == []


@pytest.mark.parametrize("wiring", ["bridge"])
def test_a_mac_that_we_are_asked_for_is_the_pods(machine: Machine, sandbox: Sandbox, wiring: str) -> None:
    mac: Document = {"mac": "0a:66:00:00:00:42"}
    capable: Document = {"capabilities": {"mac": True}}
    with chained(machine, sandbox, [tuning(machine)], "1.0.0", wiring, mac, more=capable) as chain:
        assert chain.result is not None and chain.result["interfaces"][1]["mac"] == mac["mac"]
        assert reaches_out(machine, sandbox)


def test_the_same_mac_from_both_is_one_too_many_for_routed_wiring_and_check_says_so(machine: Machine, sandbox: Sandbox) -> None:
    """Whoever sets a MAC, even the one that is there, makes the kernel forget the gateway's."""
    capable: Document = {"capabilities": {"mac": True}}
    plugins = [(NATIVE, {"type": "netloom", **capable}), tuning(machine, **capable)]
    with netns.entered(machine.netns):
        mac = {"mac": "0a:66:00:00:00:42"}
        chain = Chain(machine.run_dir, plugins, sandbox.container_id, sandbox.path, runtime_config=mac)
        assert chain.add().ok
        checked = chain.check()
        assert checked.error == 103
        assert "eth0 has forgotten the MAC of its gateway 169.254.1.1" in checked.document["details"]
        assert chain.delete().ok


@pytest.mark.parametrize("wiring", ["bridge"])
def test_firewall_lets_the_pod_through(machine: Machine, sandbox: Sandbox, wiring: str) -> None:
    with chained(machine, sandbox, [FIREWALL], "1.0.0", wiring, {}) as chain:
        assert chain.result is not None
        address = chain.result["ips"][0]["address"].partition("/")[0]
        assert f"-A CNI-FORWARD -s {address}/32 -j ACCEPT" in shown("iptables-save")
        assert reaches_out(machine, sandbox)


@pytest.mark.parametrize("wiring", ["routed"])
def test_our_own_limits_stand_with_all_of_them_behind(machine: Machine, sandbox: Sandbox, wiring: str) -> None:
    plugins = [PORTMAP, FIREWALL, tuning(machine)]
    with chained(machine, sandbox, plugins, "1.0.0", wiring, PORTS | RATES, more=LIMITED), answering(sandbox, 80):
        assert shown("tc qdisc show").count(" tbf 4e4c: ") == 2
        assert asked(machine.outside, "192.168.77.1", 8080) == b"pod"


@pytest.mark.parametrize("wiring", ["bridge"])
def test_they_may_stand_before_us_behind_an_interface_of_somebody_elses(
    machine: Machine, sandbox: Sandbox, wiring: str
) -> None:
    """None of them can be the first: they refuse to work without a result."""
    early: Plugin = (
        f"{OTHERS}/tuning",
        {"type": "tuning", "dataDir": f"{machine.folder}/tuning", "sysctl": {"net.ipv4.conf.all.arp_filter": "1"}},
    )
    before = [LOOPBACK, early, FIREWALL, (BANDWIDTH[0], {"type": "bandwidth"}), (PORTMAP[0], {"type": "portmap"})]
    with chained(machine, sandbox, [], "1.0.0", wiring, RATES, before=before, more=LIMITED) as chain:
        assert chain.result is not None
        assert [one["name"] for one in chain.result["interfaces"]][::2] == ["lo", "eth0"]
        assert shown("tc qdisc show").count(" tbf 4e4c: ") == 2
        assert reaches_out(machine, sandbox)


@pytest.mark.parametrize("wiring", ["routed"])
def test_two_that_limit_one_pod_are_refused_and_nothing_is_left(machine: Machine, sandbox: Sandbox, wiring: str) -> None:
    """The kernel has one place for a limit; `bandwidth` finds it taken."""
    before = quiet_residue(machine)
    ours = (NATIVE, {"type": "netloom", "wiring": wiring, **LIMITED})
    with netns.entered(machine.netns):
        chain = Chain(machine.run_dir, [ours, BANDWIDTH], sandbox.container_id, sandbox.path, runtime_config=RATES)
        refused = chain.add()
        assert refused.document["msg"] == "create qdisc: file exists"
        assert chain.delete().ok
    assert settled(machine, before) == []


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
@pytest.mark.parametrize("version", VERSIONS)
def test_bandwidth_finds_our_host_interface(machine: Machine, sandbox: Sandbox, version: str, wiring: str) -> None:
    with chained(machine, sandbox, [BANDWIDTH], version, wiring, RATES) as chain:
        assert chain.result is not None
        host = chain.result["interfaces"][0]["name"]
        qdiscs = shown(f"tc qdisc show dev {host}")
        assert "tbf" in qdiscs and "ingress" in qdiscs


def test_all_of_them_at_once(machine: Machine, sandbox: Sandbox) -> None:
    plugins = [PORTMAP, BANDWIDTH, tuning(machine)]
    with chained(machine, sandbox, plugins, "1.0.0", "routed", PORTS | RATES), answering(sandbox, 80):
        assert asked(machine.outside, "192.168.77.1", 8080) == b"pod"


def shown(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


def reaches_out(machine: Machine, sandbox: Sandbox, patience: float = 10.0) -> bool:
    """Whether a datagram of the pod's comes back from beyond the node."""
    with netns.entered(machine.outside):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with netns.entered(sandbox.netns):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with echo, asking:
        echo.bind(("192.168.77.2", 0))
        for one in (echo, asking):
            one.settimeout(patience)
        try:
            asking.sendto(b"x", echo.getsockname())
            echo.sendto(*echo.recvfrom(10))
            return asking.recv(10) == b"x"
        except TimeoutError:
            return False


@contextmanager
def answering(sandbox: Sandbox, port: int) -> Iterator[None]:
    with netns.entered(sandbox.netns):
        server = socket.create_server(("0.0.0.0", port))
    thread = threading.Thread(target=_answer, args=(server,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        server.close()


def _answer(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"pod")


def asked(place: int, target: str, port: int) -> bytes:
    with netns.entered(place):
        connection = socket.socket()
    with connection:
        connection.settimeout(10)
        connection.connect((target, port))
        return connection.recv(10)
