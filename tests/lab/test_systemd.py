"""Under a real systemd: the units are enabled and started, are ready when they say so, come again when they are killed, and leave nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.booted import Booted, booted
from tests.pings import unanswered
from tests.residue import differences
from tests.waiting import eventually

PACKAGES = ("bird2", "libssh-gcrypt-4", "network-manager", "libnm0", "libndp0")
AGENT, BIRD = "netloom-agent.service", "netloom-bird.service"
ADD = (
    """echo '{"cniVersion": "1.0.0", "name": "pods", "type": "netloom"}' | CNI_COMMAND=%s CNI_CONTAINERID=first """
    "CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/netloom"
)
POOL = "{apiVersion: netloom.io/v1, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.244.0.0/16, encapsulation: %s, natOutgoing: true}}"


@pytest.fixture
def machine() -> Iterator[Booted]:
    with booted("node-a", PACKAGES) as made:
        made.run("ip link add eth0 type veth peer name far; for name in eth0 far; do ip link set $name addrgenmode none; done")
        made.run(
            "ip address add 192.0.2.1/24 dev eth0; for name in lo far eth0; do ip link set $name up; done; ip route add default via 192.0.2.254"
        )
        yield made


def declare(machine: Booted, manifest: str) -> None:
    machine.run(f"netloom apply -f - <<'END'\n{manifest}\nEND")


def as_it_is(machine: Booted) -> frozenset[str]:
    """Its kernel's objects, and its files."""
    kernel = machine.run("ip -o link; ip -o address; ip route; ip -6 route; nft list ruleset")
    files = machine.run(r"find /etc /opt ! -type d -printf '%p %M %s\n'; find /etc /opt -type d")
    return frozenset((*kernel.splitlines(), *files.splitlines()))


def test_the_agent_is_a_service_from_install_to_uninstall(machine: Booted) -> None:
    before = as_it_is(machine)
    said = machine.run("netloom system install").splitlines()
    assert f"service/{AGENT} started" in said
    state = machine.show(AGENT, "ActiveState", "UnitFileState", "Type", "NRestarts", "MainPID", "NotifyAccess")
    assert (state["ActiveState"], state["UnitFileState"], state["Type"], state["NRestarts"]) == (
        "active",
        "enabled",
        "notify",
        "0",
    )
    declare(machine, POOL % "VXLAN")
    machine.run("ip netns add pod")
    machine.run(ADD % "ADD")
    address = machine.run("ip netns exec pod ip -4 -o address show eth0 | awk '{print $4}'").partition("/")[0]

    machine.run(f"systemd-run --unit=pinging --quiet sh -c 'exec ping -i 0.02 -W 1 {address} >/run/pings'")
    machine.run(f"systemctl kill --signal=KILL --kill-whom=main {AGENT}")
    eventually(lambda: machine.show(AGENT, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "1"})
    assert machine.show(AGENT, "MainPID")["MainPID"] != state["MainPID"]
    machine.run(f"systemctl restart {AGENT}")
    machine.run("netloom system install")
    machine.run("systemctl kill --signal=INT pinging")
    eventually(lambda: machine.show("pinging", "ActiveState")["ActiveState"] == "inactive")
    assert unanswered(machine.run("cat /run/pings")) == set()

    machine.run(ADD % "DEL")
    machine.run("ip netns delete pod")
    machine.run("netloom system uninstall --purge")
    assert (
        machine.run("systemctl list-unit-files 'netloom*' --no-legend; systemctl list-units 'netloom*' --all --no-legend") == ""
    )
    assert machine.run("systemctl --failed --no-legend") == ""
    assert differences(before, as_it_is(machine)) == []
    assert machine.run("ls -d /run/netloom /var/lib/netloom", check=False) == ""


CUT = 'from netloom.dataplane import offloads; offloads.leave_checksums_to_the_kernel("eth0")'
"""What leaves is cut to packets: programs are in the driver of such an uplink, where `ip` shows them."""


@pytest.mark.parametrize("engine", ["ebpf", "forwarder"])
def test_a_tunnel_outlives_the_agent_with_the_rights_that_the_unit_leaves(machine: Booted, engine: str) -> None:
    machine.run(f"mkdir -p /etc/netloom && echo 'tunnelEngine: {engine}' >/etc/netloom/agent.yaml")
    machine.run("netloom system install")
    machine.run(f"python -c '{CUT}'")
    declare(machine, POOL % "UDP")
    eventually(lambda: "loom.udp" in machine.run("ip -br link"))
    eventually(lambda: f"UDP by {engine}" in machine.run("netloom status", check=False))

    def carrier() -> str:
        if engine == "ebpf":
            return machine.run("ip link show eth0 | grep -o 'prog/xdp id .*'", check=False)
        return machine.run("systemctl list-units 'netloom-forwarder-*.scope' --no-legend --state=running | awk '{print $1}'")

    found = eventually(carrier)
    machine.run(f"systemctl restart {AGENT}")
    machine.run(f"systemctl stop {AGENT}")
    assert carrier() == found
    machine.run(f"systemctl start {AGENT}")
    assert carrier() == found


def test_bird_starts_when_the_agent_has_written_its_file_and_not_with_the_agent(machine: Booted) -> None:
    machine.run("groupadd --system bird && useradd --system --gid bird --home-dir /run/bird --shell /usr/sbin/nologin bird")
    machine.run("netloom system install")
    assert machine.show(BIRD, "ActiveState")["ActiveState"] == "inactive"
    declare(machine, POOL % "None")
    declare(machine, "{apiVersion: netloom.io/v1, kind: BGPConfiguration, metadata: {name: default}, spec: {}}")
    declare(
        machine,
        "{apiVersion: netloom.io/v1, kind: BGPPeer, metadata: {name: far}, spec: {peerIP: 192.0.2.254, asNumber: 64513}}",
    )
    eventually(lambda: machine.show(BIRD, "ActiveState")["ActiveState"] == "active")
    first = machine.show(BIRD, "MainPID")["MainPID"]
    eventually(lambda: "192.0.2.254" in machine.run("birdc -s /run/netloom/bird/bird.ctl show protocols all", check=False))
    machine.run(f"systemctl restart {AGENT}")
    declare(
        machine,
        "{apiVersion: netloom.io/v1, kind: BGPPeer, metadata: {name: far}, spec: {peerIP: 192.0.2.253, asNumber: 64513}}",
    )
    eventually(lambda: "192.0.2.253" in machine.run("birdc -s /run/netloom/bird/bird.ctl show protocols all", check=False))
    assert machine.show(BIRD, "MainPID")["MainPID"] == first
    machine.run(f"systemctl kill --signal=KILL {BIRD}")
    eventually(lambda: machine.show(BIRD, "ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "1"})
    machine.run("netloom system uninstall --purge")
    assert machine.run("systemctl list-units 'netloom*' --all --no-legend; systemctl --failed --no-legend") == ""


NETWORKD = """
ip address flush dev eth0
printf '[Match]\\nName=eth0\\n[Network]\\nAddress=192.0.2.1/24\\nGateway=192.0.2.254\\nLinkLocalAddressing=no\\n' >/etc/systemd/network/10-eth0.network
printf '[Match]\\nName=*\\n[Network]\\nLinkLocalAddressing=no\\n' >/etc/systemd/network/90-all.network
"""
NETWORK_MANAGER = """
mkdir -p /etc/NetworkManager
printf '[main]\\nplugins=keyfile\\n[device]\\nmanaged=1\\n' >/etc/NetworkManager/NetworkManager.conf
"""
MANAGERS = {  # how it is set up to manage everything, its service, what shows interfaces and states, and what it says of one that it has
    "networkd": (NETWORKD, "systemd-networkd", "networkctl --no-legend | awk '{print $2, $5}'", "configured"),
    "NetworkManager": (NETWORK_MANAGER, "NetworkManager", "nmcli --terse --fields DEVICE,STATE device | tr : ' '", "conn"),
}


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_manager_of_all_interfaces_leaves_ours_alone(machine: Booted, manager: str) -> None:
    set_up, service, look, its_own = MANAGERS[manager]
    machine.run(set_up)
    machine.run(f"systemctl daemon-reload; systemctl start dbus {service}")
    assert f"service/{service}.service reloaded" in machine.run("netloom system install").splitlines()
    declare(machine, POOL % "VXLAN")
    machine.run("ip netns add pod")
    machine.run(ADD % "ADD")

    def states() -> dict[str, str]:
        return {name: state for name, _, state in (line.partition(" ") for line in machine.run(look).splitlines())}

    def leaves_ours_alone() -> bool:
        """And knows all: its own, and both of ours."""
        known = states()
        of_ours = [state for name, state in known.items() if name.startswith("loom")]
        return of_ours == ["unmanaged"] * 2 and known.get("far", "").startswith(its_own)

    eventually(leaves_ours_alone)
    eventually(lambda: any(" loom.vxlan " in line and " inet " in line for line in ours(machine)))  # the last that comes
    before = ours(machine)
    assert len(before) > 4
    machine.run(f"systemctl restart {service}")
    eventually(leaves_ours_alone)
    assert differences(before, ours(machine)) == []
    eventually(lambda: "all is well" in machine.run("netloom status", check=False))


def ours(machine: Booted) -> frozenset[str]:
    commands = (
        "ip -o link; ip -o address; ip route show proto 79; ip neighbour show nud permanent; bridge fdb show dev loom.vxlan"
    )
    return frozenset(line for line in machine.run(commands).splitlines() if "loom" in line or "blackhole" in line)
