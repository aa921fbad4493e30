"""Passages through the real ufw, unpacked, with settings in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.dataplane.foreign import ForeignFirewalls
from tests import daemons
from tests.kernel.dataplane.foreign.conftest import Passes, TakesIn
from tests.kernel.dataplane.foreign.test_firewalld import WANT
from tests.kernel.iproute import run

Ufw = Callable[..., str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the package would have set it up."""
    folder = tmp_path_factory.mktemp("ufw") / "root"
    shutil.copytree(daemons.unpacked("ufw"), folder, symlinks=True)
    for pattern in ("*.rules", "*.init", "*.conf"):
        for file in (folder / "usr/share/ufw").glob(pattern):
            shutil.copy(file, folder / "etc/ufw")
    (folder / "run").mkdir(exist_ok=True)
    return folder


@pytest.fixture
def ufw(root: Path, node: int) -> Ufw:
    environment = os.environ | {"PYTHONPATH": str(root / "usr/lib/python3/dist-packages")}
    program = ["/usr/bin/python3", str(root / "usr/sbin/ufw"), f"--rootdir={root}", f"--datadir={root}"]

    def command(*words: str) -> str:
        return subprocess.run([*program, *words], env=environment, capture_output=True, text=True, check=True).stdout

    return command


def test_pods_and_tunnels_pass_ufw_before_and_after_a_reload(
    ufw: Ufw, firewalls: ForeignFirewalls, passes: Passes, takes_in: TakesIn
) -> None:
    ufw("--force", "enable")
    assert passes(4) == passes(6) == (False, False)
    assert not takes_in(4) and not takes_in(6)
    for act in ("status", "reload"):
        ufw(act)
        assert not firewalls.reconcile(WANT).failures
        assert str(firewalls.reconcile(WANT)) == "same"
        assert passes(4) == passes(6) == (True, True), act
        assert takes_in(4) and takes_in(6), act
        assert not takes_in(4, 4790), act
    ufw("disable")
    firewalls.reconcile(WANT)
    assert "NETLOOM" not in run("iptables -S") + run("ip6tables -S")
