"""The service as systemd would run it: with no more rights than the unit leaves to the agent, it serves pods."""

from __future__ import annotations

import shutil
import sys

from netloom.footprint.files import unit
from tests.agent_process import machine
from tests.cni_calls import CONFIG, NATIVE, Document, call

BRIDGED: Document = {**CONFIG, "name": "bridged", "wiring": "bridge"}


def test_the_rights_that_the_unit_leaves_are_enough() -> None:
    [capabilities] = [
        line.partition("=")[2].split() for line in unit("/x/netloom").decode().splitlines() if line.startswith("CapabilityB")
    ]
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)
    confined = (str(shutil.which("setpriv")), "--no-new-privs", f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}")
    with machine(command=(*confined, sys.executable, "-m", "netloom", "agent", "--config")) as made:
        made.start()
        for config in (CONFIG, BRIDGED):
            with made.sandbox() as sandbox:
                pod = made.run_dir, sandbox.container_id, sandbox.path
                added = call(NATIVE, "ADD", *pod, config)
                assert added.ok, added
                assert call(NATIVE, "CHECK", *pod, {**config, "prevResult": added.document}).ok
                assert call(NATIVE, "DEL", *pod, config).ok
        assert made.state().problems == ()
