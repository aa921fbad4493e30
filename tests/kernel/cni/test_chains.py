"""Debian's plugins chained behind ours, as a conflist has them: what we answer is what they need, and their changes are no damage.

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
from tests.agent_process import Machine, Sandbox, running_machine
from tests.cni_calls import NATIVE, OTHERS, Chain, Document
from tests.residue import quiet_residue, settled

Plugin = tuple[str, Document]

PORTMAP: Plugin = (f"{OTHERS}/portmap", {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}})
BANDWIDTH: Plugin = (f"{OTHERS}/bandwidth", {"type": "bandwidth", "capabilities": {"bandwidth": True}})
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
RATES = {"bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 100_000, "egressRate": 1_000_000, "egressBurst": 100_000}}
VERSIONS = ("0.4.0", "1.0.0")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running_machine() as made:
        yield made


def tuning(machine: Machine, **more: str) -> Plugin:
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
) -> Iterator[Chain]:
    """Attached, CHECKed, and detached as containerd does it: twice, and the second time without the result.  Nothing is left."""
    ours = (NATIVE, {"type": "netloom", "wiring": wiring})
    with netns.entered(machine.netns):
        chain = Chain(machine.run_dir, [ours, *plugins], sandbox.container_id, sandbox.path, version, runtime_config)
        warm = chain.add()  # the chains that `portmap` keeps come now
        assert warm.ok and chain.delete().ok, warm
        before = quiet_residue(machine)
        added = chain.add()
        assert added.ok, added
        # CHECK of portmap 1.1.1 looks for IPv6 rules that its ADD never makes, behind whichever plugin
        checked = replace(chain, plugins=[plugin for plugin in chain.plugins if plugin is not PORTMAP]).check()
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


@pytest.mark.parametrize("version", VERSIONS)
def test_tuning_changes_the_interface_and_our_check_still_passes(machine: Machine, sandbox: Sandbox, version: str) -> None:
    changed = tuning(machine, mac="0a:58:00:00:00:42")
    with chained(machine, sandbox, [changed], version, "routed", {}) as chain:
        assert chain.result is not None
        assert chain.result["interfaces"][1]["mac"] == "0a:58:00:00:00:42"


@pytest.mark.parametrize("wiring", ["routed", "bridge"])
@pytest.mark.parametrize("version", VERSIONS)
def test_bandwidth_finds_our_host_interface(machine: Machine, sandbox: Sandbox, version: str, wiring: str) -> None:
    with chained(machine, sandbox, [BANDWIDTH], version, wiring, RATES) as chain:
        assert chain.result is not None
        host = chain.result["interfaces"][0]["name"]
        shown = subprocess.run(["tc", "qdisc", "show", "dev", host], capture_output=True, text=True, check=True).stdout
        assert "tbf" in shown and "ingress" in shown


def test_all_of_them_at_once(machine: Machine, sandbox: Sandbox) -> None:
    plugins = [PORTMAP, BANDWIDTH, tuning(machine)]
    with chained(machine, sandbox, plugins, "1.0.0", "routed", PORTS | RATES), answering(sandbox, 80):
        assert asked(machine.outside, "192.168.77.1", 8080) == b"pod"


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
        connection.settimeout(2)
        connection.connect((target, port))
        return connection.recv(10)
