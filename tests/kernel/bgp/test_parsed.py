"""What BIRD itself makes of rendered texts."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from netloom.bgp.rendering import render
from netloom.errors import ConfigError
from netloom.lab import packages
from tests.bgp_configs import CONFIGS, FABRIC, PASSWORD, RENDERED
from tests.hostile_bgp import hostile, text

HOSTILE_FILES = 200
NEWER = "Missing authentication option, assuming MD5"
"""What BIRD 2.17 and newer remark; the option is not there before."""


def parsed(program: packages.Program, path: Path) -> str:
    """What it complains of; empty: nothing."""
    command = [program.path, "-p", "-c", str(path)]
    done = subprocess.run(command, env=os.environ | program.environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if NEWER not in line]
    return "" if done.returncode == 0 and not said else f"{done.returncode} {done.stderr}"


@pytest.mark.parametrize("name", CONFIGS)
def test_bird_reads_what_is_rendered(program: packages.Program, name: str) -> None:
    assert parsed(program, RENDERED / f"{name}.conf") == ""


def test_bird_reads_two_hundred_files_of_hostile_values(program: packages.Program, tmp_path: Path) -> None:
    """As many hostile values at once as the renderer takes."""
    chance, accepted = random.Random(7), [each for each in hostile(7, 4000) if _taken(each.config, each.secrets)]
    assert len({each.field for each in accepted}) > 5
    path = tmp_path / "bird.conf"
    for _ in range(HOSTILE_FILES):
        each = chance.choice(accepted)
        sessions = tuple(replace(session, origin=text(chance)) for session in each.config.sessions)
        config = replace(each.config, node=text(chance), sessions=sessions)
        path.write_text(render(config, each.secrets), encoding="utf-8")
        assert parsed(program, path) == "", path.read_text()


def _taken(config: object, secrets: object) -> bool:
    try:
        render(config, secrets)  # type: ignore[arg-type]  # hostile ones
    except ConfigError:
        return False
    return True


def test_a_thousand_sessions_are_read(program: packages.Program, tmp_path: Path) -> None:
    session = FABRIC.sessions[0]
    many = tuple(replace(session, name=f"peer_{n}", address=session.address + n, via=None) for n in range(1000))
    path = tmp_path / "bird.conf"
    path.write_text(render(replace(FABRIC, sessions=many), {PASSWORD: "x"}))
    assert parsed(program, path) == ""
