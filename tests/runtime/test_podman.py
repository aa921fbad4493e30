"""podman with its CNI backend: each command asks for the network by itself, and there is no daemon."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.agent_process import ADDRESSES, Machine
from tests.residue import Residue, quiet_residue, settled
from tests.runtime.enclosure import Enclosure
from tests.runtime.image import NAME
from tests.runtime.podman import Podman
from tests.runtime.reaching import eventually, problem

NODE = [str(address.ip) for address in ADDRESSES]
SERVING = ("sh", "-c", "exec httpd -f -p 80 -h /www")
NETWORKS = {"routes": ("routed", "1.0.0"), "ports": ("bridge", "0.4.0")}
"""Name: wiring and version; podman speaks both."""


@pytest.fixture(scope="module")
def _podman(inside: Enclosure) -> tuple[Podman, Residue]:
    made = Podman(inside)
    for name, (wiring, version) in NETWORKS.items():
        plugin = {"type": "netloom", "wiring": wiring, "capabilities": {"portMappings": True}}
        made.write_network({"cniVersion": version, "name": name, "plugins": [plugin]})
    return made, quiet_residue(inside.machine)


@pytest.fixture
def podman(_podman: tuple[Podman, Residue], machine: Machine) -> Iterator[Podman]:
    """At the end of the test nothing of it is left: what a test does not remove, it leaks."""
    made, before = _podman
    yield made
    if machine.pid is None:
        machine.start()
    running = made.run("ps", "--all", "--quiet").split()
    made.run("rm", "--all", "--force", "--time", "0")
    assert running == []
    assert settled(machine, before, allowed=("IPBlock", "claims", "blackhole")) == []
    assert made.left() == []


@pytest.fixture(params=sorted(NETWORKS))
def network(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(podman: Podman, name: str, network: str, *options: str, command: tuple[str, ...] = ()) -> list[str]:
    """A container in the background; its addresses as podman tells them."""
    podman.run("run", "--detach", "--name", name, "--network", network, *options, NAME, *command)
    told = podman.inspect(name)["Networks"][network]
    return [told["IPAddress"], told["GlobalIPv6Address"]]


def stop(podman: Podman, *names: str) -> None:
    podman.run("rm", "--force", "--time", "0", *names)


def test_a_container_has_the_addresses_that_podman_tells(podman: Podman, network: str) -> None:
    addresses = start(podman, "one", network)
    seen = podman.run("exec", "one", "ip", "address", "show", "dev", "eth0")
    assert all(f" {address}/" in seen for address in addresses)
    stop(podman, "one")


def test_a_command_in_a_container_leaves_nothing(podman: Podman, network: str) -> None:
    assert " 10.244." in podman.run("run", "--rm", "--network", network, NAME, "ip", "address")


def test_containers_reach_each_other(podman: Podman, network: str) -> None:
    addresses = start(podman, "serving", network, command=SERVING)
    start(podman, "asking", network)
    for address in addresses:
        podman.run("exec", "asking", "ping", "-c", "1", "-W", "10", address)
    eventually(podman.inside.machine.netns, addresses, 80)
    stop(podman, "serving", "asking")


def test_two_containers_share_one_stack(podman: Podman, network: str) -> None:
    [address, _] = start(podman, "serving", network, command=SERVING)
    eventually(podman.inside.machine.netns, [address], 80)
    request = ("sh", "-c", "ip address show dev eth0 && nc -w 2 127.0.0.1 80 </dev/null")
    assert f" {address}/" in podman.run("run", "--rm", "--network", "container:serving", NAME, *request)
    stop(podman, "serving")


def test_a_published_port_is_reached_from_outside_and_from_the_node(podman: Podman, network: str) -> None:
    machine = podman.inside.machine
    start(podman, "web", network, "--publish", "8080:80", command=SERVING)
    eventually(machine.outside, NODE, 8080)
    eventually(machine.netns, [*NODE, "127.0.0.1"], 8080)
    machine.restart(signal.SIGKILL)
    assert [problem(machine.outside, address, 8080) for address in NODE] == ["", ""]
    stop(podman, "web")
    assert all(problem(machine.outside, address, 8080) for address in NODE)


def test_a_port_on_one_address_of_the_node_is_reached_there_only(podman: Podman, network: str) -> None:
    machine = podman.inside.machine
    start(podman, "web", network, "--publish", f"{NODE[0]}:8080-8081:80-81", command=SERVING)
    eventually(machine.outside, NODE[:1], 8080)
    assert problem(machine.outside, NODE[1], 8080)
    stop(podman, "web")


def test_a_port_that_is_taken_is_refused_and_leaves_nothing(podman: Podman, network: str) -> None:
    start(podman, "web", network, "--publish", "8080:80", command=SERVING)
    refused = podman.attempt("run", "--name", "second", "--network", network, "--publish", "8080:80", NAME)
    assert refused.returncode != 0
    assert "8080" in refused.stderr
    eventually(podman.inside.machine.outside, NODE, 8080)
    stop(podman, "web", "second")


def test_containers_go_while_the_agent_is_down(podman: Podman, network: str) -> None:
    start(podman, "one", network)
    podman.inside.machine.end(signal.SIGKILL)
    stop(podman, "one")
    refused = podman.attempt("run", "--name", "two", "--network", network, NAME)
    assert "agent of this node does not answer" in refused.stderr
    stop(podman, "two")
    podman.inside.machine.start()
    start(podman, "three", network)
    stop(podman, "three")


def test_a_container_that_is_started_again_is_on_its_network_again(podman: Podman, network: str) -> None:
    start(podman, "one", network)
    podman.run("stop", "--time", "0", "one")
    podman.run("start", "one")
    assert " 10.244." in podman.run("exec", "one", "ip", "address", "show", "dev", "eth0")
    stop(podman, "one")
