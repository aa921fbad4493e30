from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from netloom import __version__
from netloom.cli.root import COMMANDS, Root
from netloom.errors import (
    ConfigError,
    Conflict,
    DataplaneError,
    NetloomError,
    NotFound,
    PoolExhausted,
    Unavailable,
)
from tests.pure.cli.conftest import Run


def failing_with(error: BaseException) -> Root:
    @click.group(cls=Root, invoke_without_command=True)
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NetloomError("no"), 1),
        (NotFound("no"), 1),
        (Conflict("no"), 1),
        (PoolExhausted("no"), 1),
        (ConfigError("no"), 2),
        (click.UsageError("no"), 2),
        (Unavailable("no"), 3),
        (DataplaneError("routes", "x", "no"), 3),
        (ValueError("no"), 3),
        (ExceptionGroup("try again", [ConfigError("no"), NetloomError("no")]), 2),
        (KeyboardInterrupt(), 130),
        (click.exceptions.Exit(1), 1),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert CliRunner().invoke(failing_with(error), []).exit_code == code


def test_an_error_ends_with_its_hint_and_shows_nothing_that_commands_a_terminal() -> None:
    result = CliRunner().invoke(failing_with(NetloomError("a\x1b[2J\nb", hint="type\x07")), [])
    assert result.stderr == "error: a\\x1b[2J\\nb\nhint: type\\x07\n"


def test_a_mistake_of_ours_is_short_and_has_its_traceback_with_v(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netloom.cli.context.Context.settings", property(lambda self: 1 / 0))
    short, long = run("get", "config"), run("get", "config", "-v")
    assert (short.exit_code, long.exit_code) == (3, 3)
    assert short.stderr.startswith("error: ZeroDivisionError: division by zero\nhint: this is a mistake in netloom")
    assert "Traceback" not in short.stderr and "Traceback" in long.stderr


def test_settings_that_cannot_be_used_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("get", "nodes", "--config", "/nonexistent.yaml")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        2,
        "error: /nonexistent.yaml: cannot be read: No such file or directory",
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_at_most_a_screen(command: str, run: Run) -> None:
    result = run(command, "-h")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: netloom {command}")
    assert len(result.stdout.splitlines()) < 50


def test_the_help_of_the_whole_imports_no_command() -> None:
    program = "import sys; sys.argv = ['netloom', '--help']; import atexit; atexit.register(lambda: print(sorted(m for m in sys.modules if m.startswith('netloom.cli.') or m in ('yaml', 'msgspec', 'asyncio')), file=sys.stderr)); from netloom.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "['netloom.cli.context', 'netloom.cli.printing', 'netloom.cli.root']"
    assert all(command in done.stdout for command in COMMANDS)


def test_a_reader_that_goes_away_is_no_mistake() -> None:
    done = subprocess.run(
        f"{sys.executable} -m netloom get config | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert (done.stdout.split(), done.stderr) == (["SETTING", "VALUE"], "")


def test_a_terminal_that_knows_few_characters_gets_all_but_the_signs(store: object, tmp_path: object) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    arguments = ["status", "--datastore", f"sqlite:{tmp_path}/store.db", "--run-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "netloom", *arguments], capture_output=True, encoding="latin-1", env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert "? no node has registered" in done.stdout


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").stdout == f"netloom {__version__}\n"
    table = run("system", "version").stdout
    assert f"netloom   {__version__}" in table and "agent     does not answer" in table


def test_versions_are_a_document_too(run: Run) -> None:
    versions = json.loads(run("system", "version", "-o", "json").stdout)
    assert (versions["kind"], versions["netloom"], versions["agent"]) == ("Versions", __version__, None)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str, run: Run) -> None:
    result = run("system", "completion", shell)
    assert result.exit_code == 0
    assert "_NETLOOM_COMPLETE" in result.stdout
