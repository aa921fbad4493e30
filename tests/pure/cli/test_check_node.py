"""How the pre-flight looks; what it finds is tested in tests/pure/preflight and tests/kernel/preflight."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from netloom import __version__
from netloom.preflight.facts import Facts, Unread
from tests.pure.cli.conftest import Run
from tests.pure.preflight.facts import CLEAN, ETH0


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the reader says instead of looking at this machine: to be changed by the test."""
    change: dict[str, Any] = {}

    def read(settings: object, agent: object, cluster: object) -> Facts:
        return replace(CLEAN, agent=agent, cluster=cluster, **change)

    monkeypatch.setattr("netloom.preflight.reading.read", read)
    return change


def test_a_host_where_nothing_is_wrong(run: Run, facts: dict[str, Any]) -> None:
    result = run("check", "node")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == f"node a · netloom {__version__} · no agent · kernel 6.1.0"
    assert lines[2].startswith("✓ kernel  ✓ address  ✓ forwarding")
    assert lines[-1] == "22 of 22 checks found nothing"


def test_a_warning_is_no_failure(run: Run, facts: dict[str, Any]) -> None:
    facts["uplinks"] = {"eth0": replace(ETH0, mtu=1300)}
    result = run("check", "node")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-4:] == [
        "! mtu: eth0 has an MTU of 1300: a tunnel leaves 1250 bytes, and IPv6 needs 1280",
        "      repair: ip link set eth0 mtu 1500",
        "",
        "21 of 22 checks found nothing, 1 warning",
    ]


def test_the_worst_comes_first_and_decides(run: Run, facts: dict[str, Any]) -> None:
    facts.update(uplinks={"eth0": replace(ETH0, mtu=1300)}, udp=frozenset((4789,)))
    result = run("check", "node")
    assert result.exit_code == 1
    assert [line[:3] for line in result.stdout.splitlines() if line[:1] in "!✗?" and line] == ["✗ t", "! m"]
    facts["links"] = Unread("Permission denied")
    result = run("check", "node")
    assert result.exit_code == 3
    assert "? leftovers: cannot be found out: Permission denied" in result.stdout


def test_as_json_each_finding_has_its_parts(run: Run, facts: dict[str, Any]) -> None:
    facts["uplinks"] = {"eth0": replace(ETH0, mtu=1300)}
    document = json.loads(run("check", "node", "-o", "json").stdout)
    assert (document["kind"], document["node"], document["agent"]) == ("NodeCheck", "a", None)
    assert document["findings"] == [
        {
            "check": "mtu",
            "level": "warning",
            "where": "eth0",
            "message": "has an MTU of 1300: a tunnel leaves 1250 bytes, and IPv6 needs 1280",
            "repair": "ip link set eth0 mtu 1500",
        }
    ]


def test_an_agent_that_was_installed_and_is_silent_is_a_problem(run: Run, facts: dict[str, Any]) -> None:
    facts["put"] = ()
    result = run("check", "node")
    assert result.exit_code == 1
    assert "✗ agent: the agent does not answer on " in result.stdout


def test_names_that_would_command_a_terminal_are_shown(run: Run, facts: dict[str, Any]) -> None:
    facts["refused"] = {"vxlan": "no\x1b[2J"}
    assert "\x1b" not in run("check", "node").stdout
