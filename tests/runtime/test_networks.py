"""Networks of one host, as `docker network create` makes them, under runtimes: a conflist with a subnet is all that there is."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest

from tests.agent_process import Machine, running_machine
from tests.residue import Residue, quiet_residue, settled
from tests.runtime.conftest import left_of
from tests.runtime.containerd import Version, containerd
from tests.runtime.cri import Pod
from tests.runtime.enclosure import Enclosure, enclosure
from tests.runtime.image import NAME
from tests.runtime.podman import Podman
from tests.runtime.reaching import eventually, problem

SERVING = ("sh", "-c", "exec httpd -f -p 80 -h /www")
OUTSIDE = ["192.168.77.2", "fd00:77::2"]
RED, BLUE, INNER = "red", "blue", "inner"
SUBNETS = {RED: ["172.30.1.0/24", "fd00:30:1::/64"], BLUE: ["172.30.2.0/24", "fd00:30:2::/64"], INNER: ["172.30.3.0/24"]}


def conflist(name: str, version: str = "1.0.0", **keys: object) -> dict[str, Any]:
    plugin = {"type": "netloom", "wiring": "bridge", "bridge": f"{name}.br0", "subnet": SUBNETS[name], **keys}
    return {"cniVersion": version, "name": name, "plugins": [plugin]}


@pytest.fixture(scope="module")
def _podman(inside: Enclosure) -> tuple[Podman, Residue]:
    """Each network has been used once: it stays, as Docker's do."""
    made = Podman(inside)
    for name in (RED, BLUE):
        made.write_network(conflist(name, capabilities={"portMappings": True}))
    made.write_network(conflist(INNER, internal=True))
    for name in SUBNETS:
        made.run("run", "--rm", "--network", name, NAME, "true")
    return made, quiet_residue(inside.machine)


@pytest.fixture
def podman(_podman: tuple[Podman, Residue], machine: Machine) -> Iterator[Podman]:
    made, before = _podman
    yield made
    made.run("rm", "--all", "--force", "--time", "0")
    assert settled(machine, before) == []
    assert made.left() == []


def start(podman: Podman, name: str, *networks: str, options: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """A web server in the background; its addresses by network, as podman tells them."""
    podman.run("run", "--detach", "--name", name, "--network", ",".join(networks), *options, NAME, *SERVING)
    told = podman.inspect(name)["Networks"]
    found = {n: [told[n]["IPAddress"], told[n]["GlobalIPv6Address"]] for n in networks}
    return {network: [address for address in addresses if address] for network, addresses in found.items()}


def pings(podman: Podman, container: str, address: str, seconds: int = 10) -> bool:
    return podman.attempt("exec", container, "ping", "-c", "1", "-W", str(seconds), address).returncode == 0


def test_a_container_has_an_address_of_the_subnet_and_its_gateway(podman: Podman) -> None:
    [addresses] = start(podman, "one", RED).values()
    subnets = [ipaddress.ip_network(subnet) for subnet in SUBNETS[RED]]
    assert [ipaddress.ip_address(a) in s for a, s in zip(addresses, subnets, strict=True)] == [True, True]
    told = podman.inspect("one")["Networks"][RED]
    assert (told["Gateway"], told["IPPrefixLen"]) == ("172.30.1.1", 24)
    assert (told["IPv6Gateway"], told["GlobalIPv6PrefixLen"]) == ("fd00:30:1::1", 64)
    assert "default via 172.30.1.1 dev eth0" in podman.run("exec", "one", "ip", "route")


def test_containers_of_a_network_reach_each_other_their_node_and_the_world(podman: Podman) -> None:
    [addresses] = start(podman, "one", RED).values()
    start(podman, "two", RED)
    for address in (*addresses, "172.30.1.1", "fd00:30:1::1", *OUTSIDE):
        assert pings(podman, "two", address), address
    eventually(podman.inside.machine.netns, addresses, 80)


def test_networks_are_kept_apart(podman: Podman) -> None:
    [addresses] = start(podman, "one", RED).values()
    start(podman, "two", BLUE)
    assert [pings(podman, "two", address, 1) for address in addresses] == [False, False]


def test_an_internal_network_has_no_way_out(podman: Podman) -> None:
    [addresses] = start(podman, "one", INNER).values()
    start(podman, "two", INNER)
    assert pings(podman, "two", addresses[0])
    assert not pings(podman, "two", OUTSIDE[0], 1)
    assert "default" not in podman.run("exec", "two", "ip", "route")


def test_a_container_can_be_on_two_networks(podman: Podman) -> None:
    both = start(podman, "both", RED, BLUE)
    for network in (RED, BLUE):
        start(podman, f"in-{network}", network)
        assert [pings(podman, f"in-{network}", address) for address in both[network]] == [True, True]
    assert all(pings(podman, "both", address) for address in OUTSIDE)


def test_a_published_port_of_such_a_network(podman: Podman) -> None:
    machine = podman.inside.machine
    start(podman, "web", RED, options=("--publish", "8080:80"))
    start(podman, "other", RED)
    eventually(machine.outside, ["192.168.77.1", "fd00:77::1"], 8080)
    eventually(machine.netns, ["192.168.77.1", "fd00:77::1", "127.0.0.1"], 8080)
    podman.run("rm", "--force", "--time", "0", "web")
    assert problem(machine.outside, "192.168.77.1", 8080)


def test_pods_of_containerd_on_such_a_network(version: Version) -> None:
    with (
        running_machine() as made,
        enclosure(made) as inside,
        containerd(inside, version, conflist(RED, version.spec)) as runtime,
    ):
        runtime.cri.run(Pod("first")).remove()
        before = quiet_residue(made)
        pods = [runtime.cri.run(Pod(name)) for name in ("one", "two")]
        assert ipaddress.ip_address(pods[0].addresses[0]) in ipaddress.ip_network(SUBNETS[RED][0])
        asking = pods[0].start("asking")
        for address in (*pods[1].addresses, *OUTSIDE):
            asking.run("ping", "-c", "1", "-W", "10", address)
        for pod in pods:
            pod.remove()
        assert left_of(runtime, before) == []
