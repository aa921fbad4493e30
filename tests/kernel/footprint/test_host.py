"""install and uninstall for real: files in a private mount namespace, a real agent, real pods, other firewalls."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from netloom.dataplane import netns
from tests.agent_process import Machine, Sandbox, machine
from tests.cni_calls import CONFIG, NATIVE, Document, call
from tests.kernel.footprint.host import Host, private_host
from tests.kernel.iproute import run
from tests.residue import differences, kernel_residue
from tests.waiting import eventually

BRIDGED: Document = {**CONFIG, "name": "bridged", "wiring": "bridge", "bridge": "docker9"}
PUBLISHED: Document = {
    **CONFIG,
    "runtimeConfig": {
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
    },
}
ALONE: Document = {**CONFIG, "name": "alone", "wiring": "bridge", "bridge": "br-alone", "subnet": "10.99.0.0/24"}
CONFLIST = "/etc/cni/net.d/10-netloom.conflist"


@pytest.fixture
def host() -> Iterator[Host]:
    """A machine without an agent yet, things of others in its kernel, and two firewalls that drop what is forwarded."""
    with machine() as made, private_host(made) as private:
        with netns.entered(made.netns):
            for program in ("iptables-nft", "iptables-legacy"):
                run(f"{program} -P FORWARD DROP")
                run(f"{program} -P INPUT DROP")
            run("ip link add other0 type bridge")
            run("ip route add 198.51.100.0/24 dev lo proto static")
            run(
                "nft", "table inet other { chain c { type filter hook input priority 5; ip daddr 203.0.113.1 counter drop; }; }"
            )
        yield private


def add(stack: ExitStack, made: Machine, config: Document = CONFIG) -> Sandbox:
    sandbox = stack.enter_context(made.sandbox())
    answer = call(NATIVE, "ADD", made.run_dir, sandbox.container_id, sandbox.path, config)
    assert answer.ok, answer
    return sandbox


def put_switches_back(host: Host, notes: str) -> None:
    """By the very commands that uninstall says: forwarding shows in multicast groups and anycast addresses."""
    commands = [line.partition("if nobody else needs it: ")[2].split() for line in notes.splitlines()]
    assert ["sysctl", "-w", "net/ipv4/ip_forward=0"] in commands
    for command in commands:
        host.run(*command)


def test_the_host_is_afterwards_as_it_was_before(host: Host) -> None:
    made, check = host.machine, "/proc/sys/net/ipv4/conf/eth0/rp_filter"
    host.run("sysctl", "-w", "net/ipv4/conf/eth0/rp_filter=1")
    files, kernel = host.files(), kernel_residue(made.netns)
    assert host.netloom("system", "install", "--timeout", "0", check=False).returncode == 3
    assert host.run("ls", CONFLIST, check=False).returncode != 0
    made.start()
    assert host.netloom("system", "install").stdout.splitlines()[-1] == f"{CONFLIST} created"
    assert json.loads(host.run("cat", CONFLIST).stdout)["cniVersion"] == "1.0.0"
    with ExitStack() as stack:
        for config in (CONFIG, BRIDGED):
            sandbox = add(stack, made, config)
            assert call(NATIVE, "DEL", made.run_dir, sandbox.container_id, sandbox.path, config).ok
    with netns.entered(made.netns):
        for program in ("iptables-nft", "iptables-legacy"):
            for passage in ("-j NETLOOM-FORWARD", "-j NETLOOM-INPUT"):
                eventually(lambda program=program, passage=passage: passage in run(f"{program} -S"))
    made.end()
    assert host.run("cat", check).stdout == "2\n"
    dry = host.netloom("system", "uninstall", "--purge", "--dry-run")
    done = host.netloom("system", "uninstall", "--purge")
    assert dry.stdout.replace(" (dry run)", "") == done.stdout
    assert differences(files, host.files()) == []
    assert host.run("cat", check).stdout == "1\n", "paths are checked as they were"
    assert "rp_filter" not in done.stderr
    put_switches_back(host, done.stderr)
    eventually(lambda: not differences(kernel, kernel_residue(made.netns)))
    again = host.netloom("system", "uninstall", "--purge")
    assert again.stdout == ""


def test_pods_keep_their_network_unless_it_is_forced(host: Host) -> None:
    made = host.machine
    kernel = kernel_residue(made.netns)
    host.netloom("system", "install", "--timeout", "0", check=False)
    made.start()
    host.netloom("system", "install")
    with ExitStack() as stack:
        pods = [add(stack, made, config) for config in (CONFIG, BRIDGED, PUBLISHED, ALONE)]
        refused = host.netloom("system", "uninstall", check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("error: 4 pods would lose their network: ")
        assert pods[0].container_id in refused.stderr
        running = host.netloom("system", "uninstall", "--force", check=False)
        assert running.returncode == 2
        assert "is the agent of this network namespace" in running.stderr
        assert host.run("ls", CONFLIST).stdout
        made.end()
        done = host.netloom("system", "uninstall", "--force")
        assert {"link/docker9 deleted", "link/br-alone deleted", "nft/inet netloom-ports deleted"} <= set(
            done.stdout.splitlines()
        )
    put_switches_back(host, done.stderr)
    eventually(lambda: not differences(kernel, kernel_residue(made.netns)))
    assert host.run("ls", "/var/lib/netloom", check=False).returncode != 0
    left = set(host.run("ls", made.state_dir).stdout.split())
    assert left - {"growth.json"} == {"claims.json", "node.json", "snapshot"}


def test_ip_knows_our_protocol_by_its_name(host: Host) -> None:
    host.netloom("system", "install", "--timeout", "0", check=False)
    host.run("ip", "route", "add", "10.9.0.0/24", "dev", "lo", "proto", "79")
    assert "proto netloom" in host.run("ip", "route", "show", "10.9.0.0/24").stdout


def test_a_plugin_that_runs_is_replaced_under_it(host: Host) -> None:
    """A runtime may be executing it: writing into the file would be refused, or worse."""
    host.netloom("system", "install", "--timeout", "0", check=False)
    host.run("cp", "/bin/sleep", "/opt/cni/bin/netloom")
    running = subprocess.Popen(["nsenter", f"--mount=/proc/{host.holder}/ns/mnt", "/opt/cni/bin/netloom", "60"])
    try:
        said = host.netloom("system", "install", "--timeout", "0", check=False).stdout
        assert "/opt/cni/bin/netloom configured" in said
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()
    assert "netloom-cni is a CNI plugin" in host.run("/opt/cni/bin/netloom").stderr


def test_what_survives_a_reboot_goes_only_when_it_is_said(host: Host) -> None:
    """Where everything is at its usual place, the record of the installation among it."""
    settings = "nodeName: a\nhealthAddress: ''\n"
    host.netloom("system", "install", "--timeout", "0", check=False)
    host.run("sh", "-c", f'printf "{settings}" >{host.machine.folder}/agent.yaml')
    for name in ("node.json", "claims.json", "snapshot", "datastore.db", "datastore.db-wal", "datastore.db-bell"):
        host.run("touch", f"/var/lib/netloom/{name}")
    assert "/var/lib/netloom" not in host.netloom("system", "uninstall", "--dry-run").stdout
    dry = host.netloom("system", "uninstall", "--purge", "--dry-run").stdout
    done = host.netloom("system", "uninstall", "--purge").stdout
    assert dry.replace(" (dry run)", "") == done
    assert done.splitlines()[-1] == "/var/lib/netloom deleted"
