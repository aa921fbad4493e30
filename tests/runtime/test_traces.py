"""The oracles of this ring see what they are there to see, and an enclosure takes all with it."""

from __future__ import annotations

from tests.agent_process import running_machine
from tests.residue import quiet_residue
from tests.runtime.conftest import left_of
from tests.runtime.containerd import V2, containerd
from tests.runtime.cri import Pod
from tests.runtime.enclosure import enclosure
from tests.runtime.traces import changes, traces


def test_a_running_pod_is_seen_and_goes_with_its_enclosure() -> None:
    before = traces()
    with running_machine() as machine:
        with enclosure(machine) as inside, containerd(inside, V2) as runtime:
            without = quiet_residue(machine)
            runtime.cri.run(Pod("web")).start("main")
            found = left_of(runtime, without, seconds=0.1)
            for kind in ("link", "route", "nft", "journal", "datastore", "/run/netns/", "/var/lib/cni/results/"):
                assert any(kind in line for line in found), (kind, found)
            assert {"cgroup", "process"} <= {line.split()[0] for line in traces() - before}
        assert changes(before) == []
