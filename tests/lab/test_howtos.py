"""The pages of docs/howto that say how machines are set up are true: each command does what the page shows."""

from __future__ import annotations

from tests.howto import Machines, machines, steps
from tests.pings import unanswered

POOL = "{apiVersion: netloom.io/v1, kind: IPPool, metadata: {name: default}, spec: {cidr: 10.244.0.0/16, natOutgoing: true}}"
ADD = (
    """echo '{"cniVersion": "1.0.0", "name": "pods", "type": "netloom"}' | CNI_COMMAND=ADD CNI_CONTAINERID=first """
    "CNI_NETNS=/run/netns/pod CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin /opt/cni/bin/netloom"
)


def test_two_machines_become_a_cluster_on_an_etcd_with_tls() -> None:
    with machines("one", "two") as made:
        made.follow(steps("two-machines.md"))


def test_a_machine_moves_to_etcd_and_its_pods_do_not_notice() -> None:
    with machines("one", "two") as made:
        made.run("one", f"netloom system install --timeout 60 || true; netloom apply -f - <<<'{POOL}'")
        made.run("one", "netloom system install && ip netns add pod")
        made.run("one", ADD)
        address = made.run("one", "ip netns exec pod ip -4 -o address show eth0 | awk '{print $4}'").stdout.strip()
        claims = made.run("one", "netloom get blocks").stdout
        made.follow([step for step in steps("two-machines.md", "Certificates") if step.machine == "one"])
        made.follow(steps("two-machines.md", "etcd"))
        ping = f"ping -i 0.05 -W 2 {address.partition('/')[0]} >/run/ping & echo $! >/run/ping.pid"
        made.run("one", f"setsid sh -c '{ping}' </dev/null >/dev/null 2>&1")
        made.follow(steps("moving-to-etcd.md"))
        made.run("one", "kill -INT $(cat /run/ping.pid); while kill -0 $(cat /run/ping.pid) 2>/dev/null; do sleep 0.05; done")
        assert unanswered(made.run("one", "cat /run/ping").stdout) == set()
        assert made.run("one", "netloom get blocks").stdout == claims
        joined(made)


def joined(made: Machines) -> None:
    """Others join, as nothing had been."""
    made.follow([step for step in steps("two-machines.md", "Certificates") if step.machine == "two"])
    made.follow([step for step in steps("two-machines.md", "The agents") if step.machine == "two"])
    assert made.run("one", "netloom get nodes -o name").stdout.split() == ["node/one", "node/two"]
