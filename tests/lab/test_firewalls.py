"""Other firewalls on the nodes: pods reach each other through them, and again after each was flushed or reloaded."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from netloom.dataplane import netns
from netloom.lab.cluster import Lab
from netloom.lab.topology import one_switch
from netloom.model.attachments import Wiring
from tests.lab.conftest import Raise, settled

DROP = (["-P", "FORWARD", "DROP"],)
DOCKER = (
    ["-P", "FORWARD", "DROP"],
    ["-N", "DOCKER-USER"],
    ["-N", "DOCKER-ISOLATION-STAGE-1"],
    ["-A", "DOCKER-USER", "-j", "RETURN"],
    ["-A", "FORWARD", "-j", "DOCKER-USER"],
    ["-A", "FORWARD", "-j", "DOCKER-ISOLATION-STAGE-1"],
)
FLUSH = (["-F"],)


def on_nodes(lab: Lab, variant: str, commands: Sequence[Sequence[str]]) -> None:
    for node in lab.topology.nodes:
        with lab.namespace(node.name) as namespace, netns.entered(namespace):
            for program in (f"iptables-{variant}", f"ip6tables-{variant}"):
                for command in commands:
                    subprocess.run([program, "-w", *command], check=True, capture_output=True)


@pytest.mark.parametrize("rules", [DROP, DOCKER], ids=["forward drop", "docker"])
@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_pods_reach_each_other_beside_another_firewall_and_after_its_reload(
    bring_up: Raise, variant: str, rules: Sequence[Sequence[str]]
) -> None:
    wiring = Wiring.ROUTED if variant == "nft" else Wiring.BRIDGE
    lab = bring_up(one_switch(nodes=2, pods=3, wiring=wiring))
    assert settled(lab)
    on_nodes(lab, variant, rules)
    assert list(settled(lab).problems()) == []
    on_nodes(lab, variant, FLUSH)
    assert list(settled(lab).problems()) == []
