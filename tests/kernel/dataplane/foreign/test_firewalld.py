"""Passages through the real firewalld."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netloom.dataplane.foreign import ForeignFirewalls
from netloom.model.desired import Filter, Outer
from tests.firewalld import Firewalld, running, unpacked
from tests.kernel.dataplane.foreign.conftest import Passes, TakesIn

WANT = Filter(
    pools=frozenset(ipaddress.ip_network(text) for text in ("10.244.0.0/24", "fd00:10:244::/64")),
    vteps=frozenset(ipaddress.ip_address(text) for text in ("192.0.2.9", "2001:db8::9")),
    outers=frozenset({Outer(17, 4789)}),
)


@pytest.fixture(scope="module")
def root() -> Path:
    """Before any test enters its namespace, where there are no packages to be had."""
    return unpacked()


@pytest.fixture
def firewalld(root: Path, node: int, tmp_path: Path) -> Iterator[Firewalld]:
    with running(root, tmp_path) as daemon:
        yield daemon


def test_pods_and_tunnels_pass_firewalld_before_and_after_a_reload(
    firewalld: Firewalld, firewalls: ForeignFirewalls, passes: Passes, takes_in: TakesIn
) -> None:
    assert passes(4) == passes(6) == (False, False)
    assert not takes_in(4) and not takes_in(6)
    for act in ("--state", "--reload", "--complete-reload", "--panic-off"):
        firewalld.command(act)
        outcome = firewalls.reconcile(WANT)
        assert not outcome.failures
        assert str(firewalls.reconcile(WANT)) == "same"
        assert passes(4) == passes(6) == (True, True), act
        assert takes_in(4) and takes_in(6), act
        assert not takes_in(4, 4790), act
    assert firewalls.obstacles(WANT) == ()
    firewalls.reconcile(Filter())
    assert passes(4) == passes(6) == (False, False)
    assert not takes_in(4)
    assert "NETLOOM" not in subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def test_who_lets_the_port_in_by_firewalld_itself_gets_no_passage_for_it(
    firewalld: Firewalld, firewalls: ForeignFirewalls, takes_in: TakesIn
) -> None:
    firewalls.reconcile(WANT)
    firewalld.command("--add-port=4789/udp")
    firewalls.reconcile(WANT)
    ruleset = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert "NETLOOM-FORWARD" in ruleset
    assert "NETLOOM-INPUT" not in ruleset
    assert takes_in(4) and takes_in(6)
