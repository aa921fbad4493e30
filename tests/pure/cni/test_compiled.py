"""The compiled client says what client.py says, whichever interpreter runs it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from netloom.cni import compiled
from netloom.durable import write_durably

ENVIRONMENTS = (
    {"CNI_COMMAND": "VERSION"},
    {"CNI_COMMAND": "ADD", "NETLOOM_RUN_DIR": "/nonexistent"},
    {"CNI_COMMAND": "STATUS", "NETLOOM_RUN_DIR": "/nonexistent"},
    {"CNI_COMMAND": "DANCE"},
    {},
)


def run(file: Path, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
    done = subprocess.run([file], env=environment, input=b'{"cniVersion": "0.4.0"}', capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.get("CNI_COMMAND", "nothing"))
def test_the_compiled_client_answers_as_its_source(tmp_path: Path, environment: dict[str, str]) -> None:
    made = tmp_path / "netloom"
    write_durably(str(made), compiled.compiled(), mode=0o755)
    assert run(made, environment) == run(compiled.CLIENT, environment)


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda e: e.get("CNI_COMMAND", "nothing"))
def test_an_interpreter_of_another_version_takes_the_source(tmp_path: Path, environment: dict[str, str]) -> None:
    made = tmp_path / "netloom"
    parts = compiled.compiled().split(b"\n#\n", 3)
    assert parts[1] == importlib.util.MAGIC_NUMBER
    write_durably(str(made), b"\n#\n".join((parts[0], b"other", parts[2], b"what it cannot read")), mode=0o755)
    assert run(made, environment) == run(compiled.CLIENT, environment)


def test_it_is_installed_as_a_program(tmp_path: Path) -> None:
    made = tmp_path / "netloom"
    subprocess.run([sys.executable, "-m", "netloom.cni.compiled", str(made)], check=True)
    assert made.stat().st_mode & 0o777 == 0o755
    assert made.read_bytes().startswith(b"#!/usr/bin/python3 ")
