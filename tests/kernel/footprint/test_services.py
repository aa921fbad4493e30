"""The order of things where systemd runs.  In its place stands a program that writes down what it is told; in the private /run of
the test there is the directory by which one knows that systemd runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_process import machine
from tests.kernel.footprint.host import Host, private_host

CONFLIST = "/etc/cni/net.d/10-netloom.conflist"
STAND_IN = f"""#!/bin/sh
here=without
[ ! -e {CONFLIST} ] || here=with
echo "$(basename "$0") $* $here" >>/run/said
case "$1 $2" in
"reload "*) [ ! -e /run/starting ] || {{ rm /run/starting; exit 1; }} ;;
*" --quiet") [ -e "/run/active/$3" ] ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in ("systemctl", "networkctl"):
        (tmp_path / name).write_text(STAND_IN, encoding="ascii")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    with machine() as made, private_host(made) as private:
        assert private.run("sh", "-c", "command -v systemctl").stdout.strip() == f"{tmp_path}/systemctl"
        private.run("mkdir", "-p", "/run/systemd/system", "/run/active")
        yield private


def said(host: Host) -> list[str]:
    lines = host.run("cat", "/run/said").stdout.splitlines()
    host.run("rm", "/run/said")
    return [line for line in lines if "is-active" not in line]


def test_the_service_runs_before_pods_come_and_ends_after_they_have_stopped_coming(host: Host) -> None:
    host.run("touch", "/run/active/systemd-networkd.service")
    host.machine.start()
    dry = host.netloom("system", "install", "--dry-run").stdout.replace(" (dry run)", "").splitlines()
    assert said(host) == []
    output = host.netloom("system", "install").stdout.splitlines()
    assert dry == output
    assert output[-3:] == [
        "service/systemd-networkd.service reloaded",
        "service/netloom-agent.service started",
        f"{CONFLIST} created",
    ]
    assert said(host) == [
        "systemctl daemon-reload without",
        "networkctl reload without",
        "systemctl enable --now netloom-agent.service netloom-bird.path without",
    ]
    host.run("touch", "/run/active/netloom-agent.service")
    assert "service/netloom-agent.service unchanged" in host.netloom("system", "install").stdout
    said(host)
    host.machine.end()
    dry = host.netloom("system", "uninstall", "--dry-run").stdout.replace(" (dry run)", "").splitlines()
    assert said(host) == []
    output = host.netloom("system", "uninstall").stdout.splitlines()
    assert dry == output
    assert output[:3] == [
        f"{CONFLIST} deleted",
        "service/netloom-agent.service stopped",
        "service/netloom-bird.path stopped",
    ]
    assert said(host) == [
        "systemctl disable --now netloom-agent.service without",
        "systemctl disable --now netloom-bird.path without",
        "systemctl daemon-reload without",
        "networkctl reload without",
    ]


def test_a_service_that_does_not_start_is_an_error_and_no_pod_comes(host: Host) -> None:
    program = host.run("sh", "-c", "command -v systemctl").stdout.strip()
    Path(program).write_text('#!/bin/sh\ncase "$1" in enable) echo "Job failed." >&2; exit 1;; esac\n', encoding="ascii")
    result = host.netloom("system", "install", check=False)
    assert result.returncode == 3
    assert result.stderr.splitlines() == [
        "error: systemctl enable --now netloom-agent.service netloom-bird.path: Job failed.",
        "hint: journalctl -u netloom-agent.service -n 20",
    ]
    assert host.run("ls", CONFLIST, check=False).returncode != 0


def test_a_manager_that_is_still_starting_is_told_again(host: Host) -> None:
    """It is active, and does not answer yet."""
    host.run("touch", "/run/active/NetworkManager.service", "/run/starting")
    host.machine.start()
    assert "service/NetworkManager.service reloaded" in host.netloom("system", "install").stdout.splitlines()
    assert said(host).count("systemctl reload NetworkManager.service without") == 2
