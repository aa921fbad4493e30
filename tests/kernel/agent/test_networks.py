"""Networks of one host, as `docker network create` makes them, by a configuration alone: what ip, bridge and nft show of them, who
reaches whom, and what is refused with nothing changed."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from netloom.dataplane import netns
from netloom.model.resources import IPPool, IPPoolSpec, Metadata
from tests.agent_process import ADDRESSES, altered, machine, running_machine
from tests.cni_calls import CLIENTS, CONFIG, NATIVE, Document, Runtime, finish
from tests.kernel.agent.conftest import Place, place_of
from tests.residue import Residue, baseline, differences, quiet_residue
from tests.waiting import eventually

BLUE: Document = {
    "cniVersion": "1.0.0",
    "name": "blue",
    "type": "netloom",
    "wiring": "bridge",
    "bridge": "blue0",
    "subnet": ["172.20.0.0/16", "fd00:20::/64"],
}
RED: Document = BLUE | {"name": "red", "bridge": "red0", "subnet": "172.21.0.0/16", "gateway": "172.21.0.254"}
INNER: Document = BLUE | {"name": "inner", "bridge": "cni0", "subnet": ["172.22.0.0/16", "fd00:22::/64"], "internal": True}
OUTSIDE = ["192.168.77.2", "fd00:77::2"]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Two pods of blue, one of red and of inner each, one of the cluster."""
    with running_machine(command=altered(repairs=0.1, upkeep=0.3, grace=3600.0)) as made, place_of(made) as found:
        for name, config in (("blue-1", BLUE), ("blue-2", BLUE), ("red-1", RED), ("inner-1", INNER), ("inner-2", INNER)):
            assert found.add(name, config).ok
        assert found.add("cluster").ok
        yield found


def json_of(namespace: int, *command: str) -> Any:
    with netns.entered(namespace):
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout or b"[]")


def addresses(namespace: int, interface: str) -> list[str]:
    (link,) = json_of(namespace, "ip", "-j", "address", "show", interface)
    return [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"]


def routes(namespace: int) -> list[str]:
    found = [route for version in ("-4", "-6") for route in json_of(namespace, "ip", "-j", version, "route")]
    return [" ".join([route["dst"], *(["via", route["gateway"]] if "gateway" in route else [])]) for route in found]


def reaches(namespace: int, address: str, patience: float = 5.0) -> bool:
    with netns.entered(namespace):
        ping = ["ping", "-n", "-q", "-c", "1", "-W", str(patience), address]
        return subprocess.run(ping, check=False, capture_output=True).returncode == 0


def is_cut_off(namespace: int, address: str) -> bool:
    """Whether nothing comes back, for a while."""
    return not reaches(namespace, address, 0.3)


def seen_source(client: int, server: int, address: str) -> str:
    """By which address the server sees the client, over TCP."""
    with netns.entered(server):
        listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    with listener:
        listener.settimeout(10)
        with netns.entered(client), socket.create_connection(listener.getsockname()[:2], 10):
            connection, peer = listener.accept()
            connection.close()
    return str(peer[0])


@contextmanager
def served(server: int, port: int) -> Iterator[list[str]]:
    """Connections to any address of the namespace are taken; by whom, is the value."""
    peers: list[str] = []
    with netns.entered(server):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)

    def accept() -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            peers.append(peer[0].removeprefix("::ffff:"))
            connection.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield peers
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def connects(client: int, address: str, port: int, patience: float = 5.0) -> bool:
    with netns.entered(client):
        try:
            socket.create_connection((address, port), patience).close()
        except OSError:
            return False
        return True


def changed(before: Residue, now: Residue) -> list[str]:
    """But for what a bridge learns of its ports by itself."""
    return [line for line in differences(before, now) if " fdb " not in line]


# what one sees


def test_the_bridge_holds_the_gateway_and_each_pod_is_a_port(place: Place) -> None:
    assert addresses(place.machine.netns, "blue0") == ["172.20.0.1/16", "fd00:20::1/64"]
    ports = {port["ifname"] for port in json_of(place.machine.netns, "bridge", "-j", "link") if port["master"] == "blue0"}
    assert ports == {place.links["blue-1"], place.links["blue-2"]}
    (bridge,) = json_of(place.machine.netns, "ip", "-j", "-d", "link", "show", "blue0")
    assert bridge["linkinfo"]["info_kind"] == "bridge" and bridge["operstate"] == "UP" and bridge["mtu"] == 1500


def test_a_pod_shows_an_address_of_the_subnet_and_its_gateway(place: Place) -> None:
    inside = place.pods["blue-1"].netns
    assert addresses(inside, "eth0") == ["172.20.0.2/16", "fd00:20::2/64"]
    assert addresses(place.pods["blue-2"].netns, "eth0") == ["172.20.0.3/16", "fd00:20::3/64"]
    assert {"default via 172.20.0.1", "default via fd00:20::1", "172.20.0.0/16", "fd00:20::/64"} <= set(routes(inside))
    (eth0,) = json_of(inside, "ip", "-j", "link", "show", "eth0")
    assert (eth0["operstate"], eth0["mtu"]) == ("UP", 1500)


def test_the_gateway_is_the_one_asked_for(place: Place) -> None:
    assert addresses(place.machine.netns, "red0") == ["172.21.0.254/16"]
    assert addresses(place.pods["red-1"].netns, "eth0") == ["172.21.0.1/16"]
    assert "default via 172.21.0.254" in routes(place.pods["red-1"].netns)


def test_of_blocks_nothing_is_seen(place: Place) -> None:
    shown = routes(place.machine.netns)
    for prefix in ("172.20.", "172.21.", "172.22.", "fd00:20:", "fd00:22:"):
        assert [route for route in shown if route.startswith(prefix)] in (
            [f"{prefix}0.0/16"],
            [f"{prefix}:/64"],
        )


def test_an_internal_network_has_no_default_route_and_says_so(place: Place) -> None:
    assert [route for route in routes(place.pods["inner-1"].netns) if route.startswith("default")] == []
    with place.machine.sandbox() as sandbox:
        runtime = Runtime(place.machine.run_dir, NATIVE)
        answer = runtime("ADD", sandbox, INNER)
        assert answer.ok and "routes" not in answer.document
        assert all("gateway" not in entry for entry in answer.document["ips"])
        assert runtime("CHECK", sandbox, INNER, result=answer.document).ok
        assert runtime("DEL", sandbox, INNER).ok


def test_the_pools_are_shown_with_their_networks(place: Place) -> None:
    stored = {s.resource.name: s.resource for s in place.store.list("IPPool").items}
    assert {"blue", "blue-v6", "red", "inner", "inner-v6"} <= stored.keys()
    blue, inner = stored["blue"], stored["inner"]
    assert isinstance(blue, IPPool) and isinstance(inner, IPPool)
    assert (blue.spec.node, blue.spec.nat_outgoing, blue.spec.isolated) == ("node-0", True, True)
    assert (inner.spec.internal, inner.spec.nat_outgoing) == (True, False)


# who reaches whom


def test_containers_of_a_network_and_the_host_reach_each_other_without_nat(place: Place) -> None:
    for here, there in (("blue-1", "blue-2"), ("inner-1", "inner-2")):
        for mine, yours in zip(place.addresses[here], place.addresses[there], strict=True):
            assert reaches(place.pods[here].netns, yours)
            assert reaches(place.machine.netns, yours)
            assert seen_source(place.pods[here].netns, place.pods[there].netns, yours) == mine
    for node in ADDRESSES:
        assert reaches(place.pods["blue-1"].netns, str(node.ip))
    for gateway in ("172.22.0.1", "fd00:22::1"):
        assert reaches(place.pods["inner-1"].netns, gateway)


def test_what_leaves_takes_the_hosts_address(place: Place) -> None:
    for outside, node in zip(OUTSIDE, ADDRESSES, strict=True):
        assert seen_source(place.pods["blue-1"].netns, place.machine.outside, outside) == str(node.ip)


@pytest.mark.parametrize(("here", "there"), [("blue-1", "red-1"), ("blue-1", "inner-1"), ("blue-1", "cluster")])
def test_networks_are_kept_apart_both_ways(place: Place, here: str, there: str) -> None:
    for one, other in ((here, there), (there, here)):
        for address in place.addresses[other]:
            assert is_cut_off(place.pods[one].netns, address)
    assert all(reaches(place.machine.netns, address) for name in (here, there) for address in place.addresses[name])


def test_nothing_leaves_an_internal_network_and_nothing_comes_in(place: Place) -> None:
    """Not even with a default route of its own making, nor for who knows the way to it."""
    inside = place.pods["inner-1"].netns
    with netns.entered(inside):
        subprocess.run(["ip", "route", "add", "default", "via", "172.22.0.1"], check=True)
    try:
        assert is_cut_off(inside, OUTSIDE[0])
        with netns.entered(place.machine.outside):
            subprocess.run(["ip", "route", "add", "172.22.0.0/16", "via", str(ADDRESSES[0].ip)], check=True)
        assert is_cut_off(place.machine.outside, place.addresses["inner-1"][0])
    finally:
        with netns.entered(inside):
            subprocess.run(["ip", "route", "del", "default"], check=True)
        with netns.entered(place.machine.outside):
            subprocess.run(["ip", "route", "del", "172.22.0.0/16"], check=True)
    assert '"cni0"' in place.run("nft list set inet netloom-networks internal")


def test_networks_that_ask_for_it_reach_each_other_and_the_cluster(place: Place) -> None:
    open_one = BLUE | {"name": "open", "bridge": "open0", "subnet": "172.23.0.0/16", "isolated": False}
    other = BLUE | {"name": "also", "bridge": "also0", "subnet": "172.24.0.0/16", "isolated": False}
    assert place.add("open", open_one).ok and place.add("also", other).ok
    (address,), (yours,) = place.addresses["open"], place.addresses["also"]
    assert seen_source(place.pods["open"].netns, place.pods["also"].netns, yours) == address
    assert seen_source(place.pods["open"].netns, place.pods["cluster"].netns, place.addresses["cluster"][0]) == address
    assert is_cut_off(place.pods["open"].netns, place.addresses["red-1"][0])
    assert is_cut_off(place.pods["red-1"].netns, address)
    assert place.delete("open", open_one).ok and place.delete("also", other).ok


def test_a_published_port_is_asked_for_and_reached_from_anywhere(place: Place) -> None:
    """Also from other networks and the cluster's pods, which reach nothing else of it; but not where the network is internal."""
    ports = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
    assert place.add("published", BLUE | ports).ok
    node, (own, own6) = str(ADDRESSES[0].ip), place.addresses["published"]
    with served(place.pods["published"].netns, 80) as peers:
        for client in (place.pods["red-1"].netns, place.pods["cluster"].netns, place.machine.outside, place.machine.netns):
            assert connects(client, node, 8080)
        assert connects(place.pods["published"].netns, node, 8080)
        assert connects(place.pods["blue-1"].netns, node, 8080)
        for name, address, port in (("red-1", own, 80), ("cluster", own6, 80), ("inner-1", node, 8080)):
            assert not connects(place.pods[name].netns, address, port, 0.4)
        assert place.addresses["red-1"][0] in peers
    assert place.delete("published", BLUE).ok


def test_a_pool_that_becomes_internal_is_closed_at_once(place: Place) -> None:
    config = BLUE | {"name": "closing", "bridge": "closing0", "subnet": "172.25.0.0/16"}
    assert place.add("closing", config).ok
    assert reaches(place.pods["closing"].netns, OUTSIDE[0])
    stored = place.store.get("IPPool", "closing")
    assert stored is not None and isinstance(stored.resource, IPPool)
    spec = msgspec.structs.replace(stored.resource.spec, internal=True, nat_outgoing=False)
    place.store.update(msgspec.structs.replace(stored.resource, spec=spec), stored.revision)
    eventually(lambda: is_cut_off(place.pods["closing"].netns, OUTSIDE[0]))
    assert place.delete("closing", config).ok


def test_a_network_may_be_of_ipv6_alone(place: Place) -> None:
    config = BLUE | {"name": "six", "bridge": "six0", "subnet": "fd00:30::/64", "gateway": "fd00:30::ff"}
    assert place.add("six-1", config).addresses == ["fd00:30::1/64"]
    assert place.add("six-2", config).ok
    inside = place.pods["six-1"].netns
    assert reaches(inside, "fd00:30::2") and reaches(inside, "fd00:30::ff")
    assert seen_source(inside, place.machine.outside, OUTSIDE[1]) == str(ADDRESSES[1].ip)
    assert place.delete("six-1", config).ok and place.delete("six-2", config).ok


def test_a_network_that_is_full_says_so(place: Place) -> None:
    config = BLUE | {"name": "tiny", "bridge": "tiny0", "subnet": "192.0.2.4/30"}
    assert place.add("tiny-1", config).addresses == ["192.0.2.6/30"]
    full = place.add("tiny-2", config)
    assert full.error == 101 and "pool tiny (192.0.2.4/30)" in full.document["msg"]
    assert place.delete("tiny-1", config).ok
    assert place.add("tiny-3", config).addresses == ["192.0.2.6/30"]
    assert place.delete("tiny-3", config).ok


# refusals, after which the host is as it was


REFUSED: dict[str, tuple[Document, str]] = {
    "a subnet of another pool": ({"subnet": "10.244.8.0/24"}, "10.244.8.0/24 overlaps 10.244.0.0/16 of pool v4"),
    "a subnet of another network": ({"subnet": "172.20.4.0/24"}, "172.20.4.0/24 overlaps"),
    "the host's own address": ({"subnet": "192.168.77.0/28"}, "192.168.77.0/28 overlaps 192.168.77.1/24 of eth0"),
    "the host's own address, IPv6": ({"subnet": "fd00:77::/60"}, "fd00:77::/60 overlaps fd00:77::1/64 of eth0"),
    "a route of the host": ({"subnet": "198.51.100.0/26"}, "198.51.100.0/26 overlaps the route 198.51.100.0/24 dev eth0"),
    "a route of the host, IPv6": ({"subnet": "fd00:99:1::/64"}, "fd00:99:1::/64 overlaps the route fd00:99::/32 dev eth0"),
    "another network's bridge": ({"bridge": "blue0"}, "blue0 is the bridge of network blue"),
    "somebody else's bridge": ({"bridge": "docker0"}, "docker0 is a bridge that somebody else made"),
    "another kind of link": ({"bridge": "wire0"}, "wire0 is a veth interface, not a bridge"),
    "the uplink": ({"bridge": "eth0"}, "eth0 is a veth interface, not a bridge"),
    "a gateway outside": ({"gateway": "172.31.0.1"}, "gateway: 172.31.0.1 is outside 172.30.0.0/16"),
    "the network's own address as gateway": ({"gateway": "172.30.0.0"}, "gateway: 172.30.0.0 is the network's own"),
    "routed wiring": ({"wiring": "routed"}, "needs wiring bridge"),
}


@pytest.fixture(scope="module")
def crowded(place: Place) -> tuple[Residue, set[str]]:
    """What there is before the refusals, pools included; among it what is in their way."""
    place.run("ip link add docker0 type bridge")
    place.run("ip link add wire0 type veth peer name wire1")
    place.run("ip route add 198.51.100.0/24 via 192.168.77.2")
    place.run("ip -6 route add fd00:99::/32 via fd00:77::2")
    return quiet_residue(place.machine), pools(place)


def pools(place: Place) -> set[str]:
    return {stored.resource.name for stored in place.store.list("IPPool").items}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
@pytest.mark.parametrize(("keys", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_and_changes_nothing(
    place: Place, crowded: tuple[Residue, set[str]], keys: Document, said: str, client: str
) -> None:
    config = {**BLUE, "name": "new", "bridge": "new0", "subnet": "172.30.0.0/16", **keys}
    with place.machine.sandbox() as sandbox:
        answer = Runtime(place.machine.run_dir, client)("ADD", sandbox, config)
        assert answer.error == 7 and said in answer.document["msg"], answer
    assert (changed(crowded[0], baseline(place.machine)), pools(place)) == ([], crowded[1])


SAID_OTHERWISE: dict[str, tuple[Document, str]] = {
    "another subnet": ({"subnet": ["172.19.0.0/16", "fd00:20::/64"]}, "172.19.0.0/16 is asked for, and pool blue"),
    "a family less": ({"subnet": "172.20.0.0/16"}, "none is asked for, and pool blue-v6"),
    "another gateway": ({"gateway": "172.20.0.9"}, "gateway: 172.20.0.9 is asked for"),
    "internal": ({"internal": True}, "internal: true is asked for"),
    "not isolated": ({"isolated": False}, "isolated: false is asked for"),
    "not masqueraded": ({"ipMasq": False}, "ipMasq: false is asked for"),
    "another bridge": ({"bridge": "blue1"}, "network blue is on blue0, and cannot be on blue1 too"),
}


@pytest.mark.parametrize(("keys", "said"), SAID_OTHERWISE.values(), ids=SAID_OTHERWISE)
def test_a_network_that_is_there_is_not_another_one(
    place: Place, crowded: tuple[Residue, set[str]], keys: Document, said: str
) -> None:
    with place.machine.sandbox() as sandbox:
        answer = Runtime(place.machine.run_dir, NATIVE)("ADD", sandbox, {**BLUE, **keys})
        assert answer.error == 7 and said in answer.document["msg"], answer
    assert (changed(crowded[0], baseline(place.machine)), pools(place)) == ([], crowded[1])


def test_no_pod_of_the_cluster_comes_onto_the_bridge_of_a_network(place: Place) -> None:
    with place.machine.sandbox() as sandbox:
        answer = Runtime(place.machine.run_dir, NATIVE)("ADD", sandbox, CONFIG | {"wiring": "bridge", "bridge": "blue0"})
        assert answer.error == 7 and "blue0 is the bridge of network blue" in answer.document["msg"]


def test_a_pool_that_a_person_applies_is_the_networks_too(place: Place) -> None:
    """Named by `ipv4Pools`, or found because it is the network's; and no other network gets addresses of it."""
    spec = IPPoolSpec(
        cidr=ip_network("172.18.0.0/24"), network="manual", node="node-0", gateway=ip_address("172.18.0.254"), nat_outgoing=True
    )
    place.store.create(IPPool(metadata=Metadata(name="by-hand"), spec=spec))
    eventually(lambda: "172.18.0.0/24" in place.run("nft list set inet netloom pools4"))
    named = CONFIG | {"name": "manual", "wiring": "bridge", "bridge": "manual0", "ipv4Pools": ["by-hand"], "ipv6Pools": []}
    for number, config in enumerate((named, {k: v for k, v in named.items() if not k.endswith("Pools")}), 1):
        assert place.add(f"manual-{number}", config).addresses == [f"172.18.0.{number}/24"]
        assert "default via 172.18.0.254" in routes(place.pods[f"manual-{number}"].netns)
    assert is_cut_off(place.pods["manual-1"].netns, place.addresses["red-1"][0])
    assert seen_source(place.pods["manual-1"].netns, place.machine.outside, OUTSIDE[0]) == str(ADDRESSES[0].ip)
    other = place.add("other", named | {"name": "another", "bridge": "another0"})
    assert not other.ok and "by-hand belongs to network manual" in other.document["msg"]
    assert place.delete("manual-1", named).ok and place.delete("manual-2", named).ok


def test_addresses_asked_for_are_of_the_subnet(place: Place) -> None:
    def asking(address: str) -> Document:
        return BLUE | {"runtimeConfig": {"ips": [address]}}

    runtime = Runtime(place.machine.run_dir, NATIVE)
    with place.machine.sandbox() as sandbox:
        assert runtime("ADD", sandbox, asking("172.20.7.64")).addresses[0] == "172.20.7.64/16"
        assert reaches(sandbox.netns, place.addresses["blue-1"][0])
        assert runtime("DEL", sandbox, BLUE).ok
        for address in ("172.20.0.1", "172.20.255.255", "172.21.0.9"):
            answer = runtime("ADD", sandbox, asking(address))
            assert not answer.ok and address in answer.document["msg"]


# coming and going


def test_many_that_come_at_once_make_one_network(place: Place) -> None:
    config = BLUE | {"name": "rush", "bridge": "rush0", "subnet": "172.26.0.0/16"}
    runtime = Runtime(place.machine.run_dir, NATIVE)
    with ExitStack() as stack:
        sandboxes = [stack.enter_context(place.machine.sandbox()) for _ in range(12)]
        answers = [finish(process) for process in [runtime.begin("ADD", sandbox, config) for sandbox in sandboxes]]
        found = sorted(int(answer.addresses[0].split(".")[3].partition("/")[0]) for answer in answers)
        assert found == list(range(2, 14)), answers
        assert all(finish(process).ok for process in [runtime.begin("DEL", sandbox, config) for sandbox in sandboxes])


def test_when_the_last_pod_has_gone_its_bridge_holds_no_address_and_the_next_one_is_served(place: Place) -> None:
    config = BLUE | {"name": "brief", "bridge": "brief0", "subnet": "172.27.0.0/16"}
    for turn in range(3):
        assert place.add(f"brief-{turn}", config).ok
        assert addresses(place.machine.netns, "brief0") == ["172.27.0.1/16"]
        assert reaches(place.pods[f"brief-{turn}"].netns, "172.27.0.1")
        assert place.delete(f"brief-{turn}", config).ok
        assert addresses(place.machine.netns, "brief0") == []
        assert "172.27.0.0/16" not in routes(place.machine.netns)
    eventually(lambda: "brief0" not in place.run("nft list table inet netloom-networks"))


def test_a_network_that_was_deleted_comes_again_with_another_subnet(place: Place) -> None:
    config = BLUE | {"name": "again", "bridge": "loom.again", "subnet": "172.31.0.0/17"}
    for number, subnet in enumerate(("172.31.0.0/17", "172.31.0.0/17", "172.31.0.0/24", "172.31.0.64/28"), 1):
        assert place.add(f"again-{number}", config | {"subnet": subnet}).ok
        assert reaches(place.pods[f"again-{number}"].netns, str(ip_network(subnet)[1]))
        assert place.delete(f"again-{number}", config).ok
        place.store.delete("IPPool", "again")
        eventually(lambda: "again" not in place.run("nft list table inet netloom-networks"))


def test_what_others_change_of_it_is_repaired(place: Place) -> None:
    place.run("ip address del 172.20.0.1/16 dev blue0")
    eventually(lambda: addresses(place.machine.netns, "blue0")[:1] == ["172.20.0.1/16"])
    place.run("nft delete table inet netloom-networks")
    eventually(lambda: is_cut_off(place.pods["blue-1"].netns, place.addresses["red-1"][0]))
    place.run("ip link set blue0 down")
    eventually(lambda: reaches(place.pods["blue-1"].netns, place.addresses["blue-2"][0]))
    eventually(lambda: addresses(place.machine.netns, "blue0") == ["172.20.0.1/16", "fd00:20::1/64"])


def test_after_the_first_add_the_datastore_is_not_asked(place: Place) -> None:
    config = BLUE | {"name": "alone", "bridge": "alone0", "subnet": "172.28.0.0/16"}
    assert place.add("alone-1", config).ok
    with sqlite3.connect(f"{place.machine.folder}/datastore.db") as connection:
        connection.execute("BEGIN EXCLUSIVE")  # nobody else reads or writes it
        assert place.add("alone-2", config).addresses == ["172.28.0.3/16"]
        connection.rollback()
    connection.close()
    assert place.delete("alone-1", config).ok and place.delete("alone-2", config).ok


# the end of an agent


def test_a_network_outlives_its_agent(place: Place) -> None:
    """Killed, and started with what it remembers: traffic flows on, nothing is built anew, and pods come and go."""
    before = place.quiet_residue()
    place.machine.end(signal.SIGKILL)
    assert reaches(place.pods["blue-1"].netns, place.addresses["blue-2"][0])
    assert is_cut_off(place.pods["blue-1"].netns, place.addresses["red-1"][0])
    place.machine.start()
    eventually(lambda: not changed(before, place.residue()))
    assert place.add("late", BLUE).ok
    assert reaches(place.pods["late"].netns, place.addresses["blue-1"][0])
    assert is_cut_off(place.pods["late"].netns, place.addresses["red-1"][0])
    assert place.delete("late", BLUE).ok


def test_a_lost_journal_is_rebuilt_with_the_networks_in_it(place: Place) -> None:
    before = place.quiet_residue()
    place.machine.end(signal.SIGKILL)
    os.unlink(f"{place.machine.run_dir}/journal")
    place.machine.start()
    eventually(lambda: not changed(before, place.residue()))
    runtime = Runtime(place.machine.run_dir, NATIVE)
    config = CONFIG | {"wiring": "bridge", "bridge": "red0"}
    with place.machine.sandbox() as sandbox:
        assert runtime("ADD", sandbox, config).error == 7  # it is known whose bridge that is
    result = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": place.pods["inner-1"].path}],
        "ips": [{"address": a, "interface": 0} for a in addresses(place.pods["inner-1"].netns, "eth0")],
    }
    assert runtime("CHECK", place.pods["inner-1"], INNER, result=result).ok


def test_an_agent_that_is_killed_while_it_makes_a_network_makes_it_the_next_time(place: Place) -> None:
    runtime = Runtime(place.machine.run_dir, NATIVE)
    for turn, delay in enumerate((0.002, 0.01, 0.02, 0.035, 0.06)):
        subnets = [f"10.{100 + turn}.0.0/16", f"fd00:{100 + turn}::/64"]
        config = BLUE | {"name": f"cut-{turn}", "bridge": "loom.cut0", "subnet": subnets}
        with place.machine.sandbox() as first, place.machine.sandbox() as second:
            process = runtime.begin("ADD", first, config)
            time.sleep(delay)
            place.machine.end(signal.SIGKILL)
            finish(process)
            place.machine.start()
            assert runtime("DEL", first, config).ok
            answer = runtime("ADD", second, config)
            assert answer.addresses[0].startswith(f"10.{100 + turn}.0."), answer
            assert {f"cut-{turn}", f"cut-{turn}-v6"} <= pools(place)
            assert reaches(second.netns, f"10.{100 + turn}.0.1")
            assert runtime("DEL", second, config).ok
    assert is_cut_off(place.pods["blue-1"].netns, place.addresses["red-1"][0])


def test_two_agents_on_one_datastore_make_a_network_once(place: Place) -> None:
    """It is the first one's; the other one says whose it is."""
    config = BLUE | {"name": "shared", "bridge": "shared0", "subnet": "172.29.0.0/16"}
    with machine({}, datastore=place.machine.datastore, nodeName="node-1", nodeAddresses=["192.168.77.1/24"]) as other:
        other.start()
        with place.machine.sandbox() as here, other.sandbox() as there:
            processes = [
                Runtime(place.machine.run_dir, NATIVE).begin("ADD", here, config),
                Runtime(other.run_dir, NATIVE).begin("ADD", there, config),
            ]
            answers = [finish(process) for process in processes]
            assert sorted(answer.error for answer in answers) == [0, 7], answers
            winner = [answer.ok for answer in answers].index(True)
            refusal = answers[1 - winner].document["msg"]
            assert f"network shared is on node node-{winner} (pool shared)" in refusal
            assert Runtime(place.machine.run_dir, NATIVE)("DEL", here, config).ok
            assert Runtime(other.run_dir, NATIVE)("DEL", there, config).ok
