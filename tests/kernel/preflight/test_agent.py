"""check node beside a running agent: both say the same of this node."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from netloom.dataplane import netns
from tests.agent_process import Machine, running_machine
from tests.kernel.iproute import run
from tests.waiting import eventually


def answer(made: Machine, *command: str) -> tuple[int, dict[str, str]]:
    """Exit code, and message → level."""
    with netns.entered(made.netns):
        done = subprocess.run(
            [sys.executable, "-m", "netloom", *command, "-o", "json", "--config", f"{made.folder}/agent.yaml"],
            capture_output=True,
            text=True,
            check=False,
        )
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {f["message"]: f["level"] for f in found}


def test_a_node_that_is_well_is_well_for_both() -> None:
    with running_machine() as made:
        with netns.entered(made.netns):
            run("iptables-nft -P FORWARD DROP")
        eventually(lambda: "NETLOOM-FORWARD" in _chains(made))
        eventually(lambda: answer(made, "status") == (0, {}))  # the pass that has made it is through
        assert answer(made, "check", "node") == (0, {})


def test_what_the_agent_finds_wrong_is_said_by_both() -> None:
    with running_machine() as made:
        with netns.entered(made.netns):
            run("ip address flush dev eth0")

        def said_by_both() -> bool:
            """Of the same pass: one may fall between an address and the next."""
            code, problems = answer(made, "status")
            own = {message: level for message, level in problems.items() if message.startswith("node node-0")}
            also, found = answer(made, "check", "node")
            return code == also == 1 and bool(own) and own.items() <= found.items()

        eventually(said_by_both)


def test_somebody_who_is_not_root_is_told_what_could_not_be_found_out(tmp_path: object) -> None:
    environment = {**os.environ, "NETLOOM_RUN_DIR": "/nonexistent", "NETLOOM_CONFIG": "/dev/null"}
    done = subprocess.run(
        [sys.executable, "-m", "netloom", "check", "node"],
        user=65534,
        group=65534,
        extra_groups=(),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "? kernel: cannot be found out: " in done.stdout
    assert "repair: try it as root" in done.stdout


def _chains(made: Machine) -> str:
    with netns.entered(made.netns):
        return run("iptables-nft -S")
