"""Each fault is made for real in a namespace, found there, and repaired by the command that is said."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from netloom.config import Settings
from netloom.findings import Finding, Level
from netloom.footprint.files import Layout, conflist, files
from netloom.footprint.installing import Installation
from netloom.footprint.tree import Tree
from netloom.preflight import probing
from netloom.preflight.judging import judge
from netloom.preflight.reading import read
from tests.kernel.iproute import run
from tests.residue import kernel_residue


@dataclass(frozen=True, slots=True)
class Place:
    """`root`: the host's files; its kernel is the namespace that the test is in."""

    root: Path

    @property
    def settings(self) -> Settings:
        run_dir, state_dir = f"{self.root}/run/netloom", f"{self.root}/var/lib/netloom"
        return Settings(run_dir=run_dir, state_dir=state_dir, datastore=f"sqlite:{state_dir}/datastore.db")

    def found(self) -> dict[str, tuple[Finding, ...]]:
        facts = read(self.settings, tree=Tree(str(self.root)))
        return {name: findings for name, findings in judge(facts).items() if findings}

    def repair(self, finding: Finding) -> None:
        """By the very command that the finding says; of the host's files those of the test are meant."""
        command = finding.hint
        for directory in ("/etc/", "/opt/"):
            command = command.replace(f" {directory}", f" {self.root}{directory}")
        subprocess.run(["sh", "-ec", command], check=True, capture_output=True)


@pytest.fixture
def place(node: int, tmp_path: Path) -> Iterator[Place]:
    """A clean host: one uplink with a default route, and nothing of ours."""
    for directory in ("etc/cni/net.d", "etc/sysctl.d", "opt/cni/bin", "run/netloom", "var/lib/netloom"):
        (tmp_path / directory).mkdir(parents=True, mode=0o755)
    uplink("eth0", "192.0.2.1/24")
    run("ip link set lo up")
    run("ip route add default via 192.0.2.254 dev eth0")
    yield Place(tmp_path)


def uplink(name: str, address: str) -> None:
    run(f"ip link add {name} type bridge")
    run(f"ip address add {address} dev {name}")
    run(f"ip link set {name} up")


def write(path: str, value: str) -> None:
    Path("/proc/sys/net", path).write_text(value, encoding="ascii")


def install(place: Place) -> None:
    installation = Installation(Tree(str(place.root)), files(Layout()), conflist(Layout()))
    installation.begin({})
    list(installation.put())
    installation.finish()


def test_a_clean_host_raises_no_alarm(place: Place) -> None:
    assert place.found() == {}


def test_a_look_leaves_nothing_behind(place: Place, node: int) -> None:
    before = kernel_residue(node), sorted(os.walk(place.root)), sorted(os.listdir("/proc/self/fd"))
    place.found()
    assert (kernel_residue(node), sorted(os.walk(place.root)), sorted(os.listdir("/proc/self/fd"))) == before


def strict_second_uplink(place: Place) -> None:
    uplink("eth1", "198.51.100.1/24")
    run("ip route add default via 198.51.100.254 dev eth1 metric 100")
    write("ipv4/conf/eth1/rp_filter", "1")


def flannels_device(place: Place) -> None:
    run("ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1 dev eth0")


def flannels_bridge(place: Place) -> None:
    run("ip link add cni0 type bridge")


def device_on_our_port(place: Place) -> None:
    run("ip link add vxlan9 type vxlan id 9 dstport 4789 local 192.0.2.1 dev eth0")


def calicos_chains(place: Place) -> None:
    run("iptables-nft -N cali-FORWARD")
    run("iptables-nft -A FORWARD -j cali-FORWARD")


def kube_routers_older_chains(place: Place) -> None:
    run("iptables-legacy -N KUBE-ROUTER-FORWARD")
    run("iptables-legacy -A FORWARD -j KUBE-ROUTER-FORWARD")


def table_that_drops(place: Place) -> None:
    run("nft", "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }")
    bridge_nf_off()


def table_whose_last_rule_rejects(place: Place) -> None:
    rules = 'iifname "lan*" accept; counter reject with icmpx admin-prohibited;'
    run("nft", f"table inet mine {{ chain f {{ type filter hook forward priority 5; {rules} }}; }}")
    bridge_nf_off()


def bridge_nf_off() -> None:
    """There is such a switch where br_netfilter is loaded; then a chain that drops is a second finding."""
    if Path("/proc/sys/net/bridge").exists():
        write("bridge/bridge-nf-call-iptables", "0")
        write("bridge/bridge-nf-call-ip6tables", "0")


def table_that_lets_nobody_in(place: Place) -> None:
    run(
        "nft",
        "table inet filter { chain input { type filter hook input priority 0; policy drop; ct state established accept; }; }",
    )


def small_uplink(place: Place) -> None:
    run("ip link set eth0 mtu 1300")


def tiny_uplink(place: Place) -> None:
    run("ip link set eth0 mtu 600")


def sysctl_file_that_stops_forwarding(place: Place) -> None:
    (place.root / "etc/sysctl.d/90-hardening.conf").write_text("# hardened\nnet.ipv4.ip_forward = 0\n", encoding="ascii")


def another_network_before_ours(place: Place) -> None:
    install(place)
    text = '{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel"}]}'
    (place.root / "etc/cni/net.d/10-flannel.conflist").write_text(text, encoding="ascii")


def directory_for_everybody(place: Place) -> None:
    (place.root / "run/netloom").chmod(0o777)


FAULTS: list[tuple[Callable[[Place], None], str, Level]] = [
    (strict_second_uplink, "reverse-path", Level.WARNING),
    (flannels_device, "leftovers", Level.WARNING),
    (flannels_bridge, "leftovers", Level.WARNING),
    (calicos_chains, "leftovers", Level.WARNING),
    (kube_routers_older_chains, "leftovers", Level.WARNING),
    (table_that_drops, "firewalls", Level.PROBLEM),
    (table_whose_last_rule_rejects, "firewalls", Level.PROBLEM),
    (table_that_lets_nobody_in, "inbound", Level.PROBLEM),
    (small_uplink, "mtu", Level.WARNING),
    (tiny_uplink, "mtu", Level.PROBLEM),
    (sysctl_file_that_stops_forwarding, "forwarding", Level.WARNING),
    (another_network_before_ours, "networks", Level.PROBLEM),
    (directory_for_everybody, "directories", Level.PROBLEM),
]


@pytest.mark.parametrize(("fault", "check", "level"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_is_found_and_gone_after_its_repair(
    place: Place, fault: Callable[[Place], None], check: str, level: Level
) -> None:
    fault(place)
    [(name, [finding])] = place.found().items()
    assert (name, finding.level) == (check, level)
    place.repair(finding)
    assert place.found() == {}


def test_a_device_on_our_port_is_in_our_way(place: Place) -> None:
    device_on_our_port(place)
    [(name, [finding])] = place.found().items()
    assert (name, finding.level, finding.where) == ("tunnels", Level.PROBLEM, "vxlan9")
    assert finding.hint.endswith("; or ip link delete vxlan9")


def test_a_process_on_our_port_is_in_our_way(place: Place) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind(("::", 4789))
        [(name, [finding])] = place.found().items()
    assert (name, finding.level) == ("tunnels", Level.PROBLEM)
    assert place.found() == {}


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables_that_let_nobody_in_are_passed_by_the_agent_and_a_warning_until_then(place: Place, variant: str) -> None:
    for program in (f"iptables-{variant}", f"ip6tables-{variant}"):
        run(f"{program} -P INPUT DROP")
    [(name, [finding])] = place.found().items()  # of the family of the node's address
    assert (name, finding.level) == ("inbound", Level.WARNING)
    run(f"iptables-{variant} -A INPUT -p udp --dport 4789 -j ACCEPT")
    assert place.found() == {}


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables_that_drop_are_passed_by_the_agent_and_a_warning_until_then(place: Place, variant: str) -> None:
    for program in (f"iptables-{variant}", f"ip6tables-{variant}"):
        run(f"{program} -P FORWARD DROP")
    [(name, findings)] = place.found().items()
    assert (name, [finding.level for finding in findings]) == ("firewalls", [Level.WARNING] * 2)


def test_docker_and_firewalld_are_known(place: Place) -> None:
    run("iptables-nft -N DOCKER-USER")
    run("nft", "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; reject; }; }")
    [(name, findings)] = place.found().items()
    assert (name, sorted(finding.where for finding in findings)) == (
        "firewalls",
        ["inet firewalld filter_FORWARD", "ip filter DOCKER-USER"],
    )


def test_tables_that_forward_are_left_alone(place: Place) -> None:
    run("nft", 'table inet x { chain f { type filter hook forward priority 5; iifname "a" drop; }; }')
    run("nft", "table inet y { chain i { type filter hook input priority 5; policy drop; udp dport 4789 accept; }; }")
    run("iptables-nft -A FORWARD -i eth9 -j DROP")
    assert place.found() == {}


def test_legacy_tables_without_their_program_are_not_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    run("iptables-legacy -P FORWARD DROP")
    monkeypatch.setattr("netloom.dataplane.foreign.legacy.PROGRAMS", {4: "iptables-missing", 6: "ip6tables-missing"})
    [(name, [finding])] = place.found().items()
    assert (name, finding.level, finding.hint) == ("firewalls", Level.PROBLEM, "apt-get install iptables")


def test_a_host_without_an_address_cannot_be_reached(place: Place) -> None:
    run("ip address flush dev eth0")
    [(name, [finding])] = place.found().items()
    assert (name, finding.level) == ("address", Level.PROBLEM)


def test_a_datastore_of_the_future_shows_a_clock_that_is_wrong(place: Place) -> None:
    store = place.root / "var/lib/netloom/datastore.db"
    store.write_bytes(b"")
    os.utime(store, (4e9, 4e9))
    [(name, [finding])] = place.found().items()
    assert (name, finding.level) == ("clock", Level.WARNING)


@pytest.mark.parametrize("state", ["missing", "changed", "not executable"])
def test_a_plugin_that_is_not_as_it_was_put_is_found(place: Place, state: str) -> None:
    install(place)
    plugin = place.root / "opt/cni/bin/netloom"
    {
        "missing": plugin.unlink,
        "changed": lambda: plugin.write_bytes(b"x"),
        "not executable": lambda: plugin.chmod(0o644),
    }[state]()
    [(name, [finding])] = place.found().items()
    assert (name, finding.level, finding.hint) == ("files", Level.PROBLEM, "netloom system install")
    assert finding.message.startswith(f"is {state}")
    install(place)
    assert place.found() == {}


def test_a_kernel_that_lacks_something_is_asked_and_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one has all; so it is asked for what no kernel has."""
    monkeypatch.setattr(
        probing, "new_bridge", lambda name, mac, mtu: probing.new_ifb(f"{name}-too-long-a-name", mac=mac, mtu=mtu)
    )
    [(name, [finding])] = place.found().items()
    assert (name, finding.level) == ("kernel", Level.PROBLEM)
    assert "refuses what bridge takes: " in finding.message


def test_an_nft_that_cannot_read_our_rules_is_named(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is too old does it."""
    (tmp_path / "nft").write_text("#!/bin/sh\necho 'netlink: Error: unknown expression type' >&2\nexit 1\n", encoding="ascii")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    [(name, [finding])] = place.found().items()
    assert (name, finding.level) == ("kernel", Level.WARNING)
    assert "unknown expression type" in finding.message
