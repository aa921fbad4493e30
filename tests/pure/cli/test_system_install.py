"""Installing into an image: everything but services and kernel, for those see tests/kernel/footprint."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from netloom.agent.state import AgentState
from netloom.footprint.tree import Tree
from tests.pure.cli.conftest import Run

IMAGE = ("--without-agent",)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    return root


def below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_dry_run_says_what_the_real_one_does_and_does_nothing(run: Run, image: Path) -> None:
    dry = run("system", "install", "--root", str(image), *IMAGE, "--dry-run")
    assert below(image) == ["etc"]
    real = run("system", "install", "--root", str(image), *IMAGE)
    assert (dry.exit_code, real.exit_code) == (0, 0)
    assert dry.stdout.replace(" (dry run)", "") == real.stdout
    assert real.stdout.splitlines()[-1] == "/etc/cni/net.d/10-netloom.conflist created"
    dry = run("system", "uninstall", "--root", str(image), "--dry-run")
    assert "etc/cni/net.d/10-netloom.conflist" in below(image)
    real = run("system", "uninstall", "--root", str(image))
    assert dry.stdout.replace(" (dry run)", "") == real.stdout
    assert real.stdout.splitlines()[0] == "/etc/cni/net.d/10-netloom.conflist deleted"
    assert below(image) == ["etc"]


def test_done_again_it_changes_nothing(run: Run, image: Path) -> None:
    run("system", "install", "--root", str(image), *IMAGE)
    again = run("system", "install", "--root", str(image), *IMAGE).stdout.splitlines()
    assert len(again) == 10
    assert all(line.endswith(" unchanged") for line in again)


def test_without_an_agent_the_conflist_is_not_put(run: Run, image: Path) -> None:
    result = run("system", "install", "--root", str(image))
    assert result.exit_code == 3
    assert result.stderr.splitlines()[1] == "hint: --without-agent puts /etc/cni/net.d/10-netloom.conflist into an image"
    assert not (image / "etc/cni/net.d/10-netloom.conflist").exists()
    assert (image / "opt/cni/bin/netloom").exists()


def test_where_and_what_can_be_said(run: Run, image: Path) -> None:
    options = ["--cni-bin-dir", "/usr/lib/cni", "--cni-conf-dir", "/srv/cni/", "--cni-version", "1.1.0"]
    options += ["--network-name", "blue", "--wiring", "bridge", "--machine", "aarch64", "--program", "/usr/bin/netloom"]
    assert run("system", "install", "--root", str(image), *IMAGE, *options).exit_code == 0
    network = json.loads((image / "srv/cni/10-netloom.conflist").read_text())
    assert (network["cniVersion"], network["name"], network["plugins"][0]["wiring"]) == ("1.1.0", "blue", "bridge")
    assert (image / "usr/lib/cni/netloom").read_bytes()[18:20] == b"\xb7\0"  # e_machine of elf(5): EM_AARCH64
    assert "ExecStart=/usr/bin/netloom agent" in (image / "etc/systemd/system/netloom-agent.service").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network-name", "a/b"], "error: --network-name: 'a/b' is not the name of a network"),
        (["--network-name", ""], "error: --network-name: '' is not the name of a network"),
        (["--cni-conf-dir", "net.d"], "error: --cni-conf-dir: 'net.d' is not an absolute path"),
        (["--program", "/a b"], "error: --program: systemd cannot start '/a b'"),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_is_done(options: list[str], message: str, run: Run, image: Path) -> None:
    result = run("system", "install", "--root", str(image), *IMAGE, *options)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (2, message)
    assert below(image) == ["etc"]


def test_a_root_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    result = run("system", "install", "--root", f"{tmp_path}/none")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (2, f"error: {tmp_path}/none: --root: is not a directory")


def test_a_machine_type_is_for_images(run: Run) -> None:
    assert run("system", "install", "--dry-run", "--machine", "aarch64").exit_code == 2


def test_a_file_of_somebody_else_is_not_overwritten_unless_it_is_said(run: Run, image: Path) -> None:
    foreign = image / "opt/cni/bin/netloom"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"not ours")
    result = run("system", "install", "--root", str(image), *IMAGE)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: /opt/cni/bin/netloom: is there already, and not ours",
        "hint: look at them, and move them away; --force overwrites them",
    ]
    assert foreign.read_bytes() == b"not ours"
    assert "/opt/cni/bin/netloom configured" in run("system", "install", "--root", str(image), *IMAGE, "--force").stdout


def test_an_image_whose_etc_is_a_link_leaves_the_real_etc_alone(run: Run, image: Path) -> None:
    (image / "etc").rmdir()
    (image / "etc").symlink_to("/etc")
    before = sorted(os.listdir("/etc"))
    result = run("system", "install", "--root", str(image), *IMAGE)
    assert result.exit_code == 2
    assert sorted(os.listdir("/etc")) == before


def test_where_nothing_was_installed_uninstall_says_so(run: Run, image: Path) -> None:
    result = run("system", "uninstall", "--root", str(image))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("note: no record of an installation")


def test_an_agent_of_this_host_does_not_answer_for_an_image(run: Run, agent: AgentState, image: Path) -> None:
    assert run("system", "install", "--root", str(image)).exit_code == 3


def test_two_at_once_do_not_get_in_each_others_way(run: Run, image: Path) -> None:
    with Tree(str(image)).held():
        result = run("system", "install", "--root", str(image), *IMAGE)
        assert run("system", "install", "--root", str(image), *IMAGE, "--dry-run").exit_code == 0
    assert (result.exit_code, result.stderr.splitlines()[0]) == (2, f"error: {image}: another install or uninstall is at work")
    assert below(image) == ["etc"]
    assert run("system", "install", "--root", str(image), *IMAGE).exit_code == 0
