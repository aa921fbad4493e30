"""`netloom system install` beside a containerd that runs: it speaks the CNI that this one understands, pods come, and go away again."""

from __future__ import annotations

import json
import sys

from tests.agent_process import running_machine
from tests.residue import kernel_residue
from tests.runtime.containerd import CONFLIST, PLUGINS, Containerd, Version, containerd
from tests.runtime.cri import Pod
from tests.runtime.enclosure import enclosure


def netloom(runtime: Containerd, *arguments: str) -> tuple[int, str, str]:
    config = ("--config", f"{runtime.inside.machine.folder}/agent.yaml")
    command = [sys.executable, "-m", "netloom", "system", *arguments, *config]
    done = runtime.inside.attempt(*command, environment=runtime.environment)
    return done.returncode, done.stdout, done.stderr


def test_from_a_runtime_without_a_network_to_pods_and_back(version: Version) -> None:
    with running_machine() as made, enclosure(made) as inside, containerd(inside, version) as runtime:
        for path in (CONFLIST, f"{PLUGINS}/netloom"):
            inside.path(path).unlink()
        runtime.wait_for_network(ready=False)
        code, said, problems = netloom(runtime, "install")
        assert (code, said.splitlines()[-1]) == (0, f"{CONFLIST} created"), problems
        assert json.loads(inside.path(CONFLIST).read_text())["cniVersion"] == version.spec
        runtime.wait_for_network()
        pod = runtime.cri.run(Pod("first"))
        assert netloom(runtime, "uninstall")[0] == 1
        pod.remove()
        made.end()
        code, said, problems = netloom(runtime, "uninstall")
        assert (code, said.splitlines()[0]) == (0, f"{CONFLIST} deleted"), problems
        runtime.wait_for_network(ready=False)
        assert [line for line in kernel_residue(made.netns) if "loom" in line] == []
