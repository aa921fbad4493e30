"""The table that keeps networks apart: as nft shows it, there only while it is needed, and before anybody behind it is admitted."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane.nft import Nft
from netloom.dataplane.nft.objects import Count
from netloom.model.desired import Filter
from netloom.reconcile import Outcome

pytestmark = pytest.mark.usefixtures("node")

POOLS = frozenset(map(ipaddress.ip_network, ("172.20.0.0/16", "10.244.0.0/16", "fd00:20::/64")))
WANT = Filter(pools=POOLS, internal=frozenset({"red0"}), isolated=frozenset({"blue0", "red0"}))
SHOWN = (Path(__file__).parent / "networks.nft").read_text(encoding="utf-8")
TABLE = "inet netloom-networks"


def nft(words: str) -> str:
    return subprocess.run(["nft", *words.split()], capture_output=True, text=True, check=True).stdout


def elements(name: str) -> str:
    return nft(f"list set {TABLE} {name}")


def listing() -> str:
    """Elements of a hash set come in any order."""
    return re.sub(r"elements = \{([^}]*)\}", _in_order, nft(f"-s list table {TABLE}"))


def _in_order(elements: re.Match[str]) -> str:
    return f"elements = {{ {', '.join(sorted(one.strip() for one in elements[1].split(',')))} }}"


def test_it_reads_like_what_it_does() -> None:
    Nft().reconcile(WANT)
    assert listing() == SHOWN


def test_it_is_there_only_while_a_network_is() -> None:
    driver = Nft()
    driver.reconcile(Filter(pools=POOLS))
    assert TABLE not in nft("list tables")
    driver.reconcile(WANT)
    assert TABLE in nft("list tables")
    driver.reconcile(Filter(pools=POOLS))
    assert TABLE not in nft("list tables")


def test_a_bridge_is_kept_apart_before_anybody_behind_it_may_send() -> None:
    driver = Nft()
    driver.reconcile(Filter(pools=POOLS))
    driver.keep_apart((), ("blue0",))
    assert '"blue0"' in elements("isolated") and "172.20.0.0/16" in elements("pools4")
    driver.keep_apart(("red0",), ("red0",))
    assert '"blue0"' in elements("isolated") and '"red0"' in elements("isolated")
    assert '"red0" . "red0"' in elements("within") and '"red0"' in elements("internal")
    assert driver.reconcile(WANT) == Outcome()


def test_a_network_that_is_alone_needs_no_wall_until_another_comes() -> None:
    driver = Nft()
    driver.reconcile(Filter(pools=POOLS, alone=frozenset({"blue0"})))
    driver.keep_apart((), ("blue0",))
    assert TABLE not in nft("list tables")
    driver.keep_apart((), ("red0",))
    assert '"red0"' in elements("isolated") and "172.20.0.0/16" in elements("pools4")
    driver.keep_apart((), ("blue0",))
    assert '"blue0"' in elements("isolated")


def test_a_network_that_is_alone_may_become_internal() -> None:
    driver = Nft()
    driver.reconcile(Filter(pools=POOLS, alone=frozenset({"blue0"})))
    driver.keep_apart(("blue0",), ("blue0",))
    assert '"blue0"' in elements("internal")


def test_what_is_no_more_goes_and_the_rest_stays() -> None:
    driver = Nft()
    driver.reconcile(WANT)
    driver.reconcile(Filter(pools=POOLS, isolated=frozenset({"blue0"})))
    assert "red0" not in nft(f"list table {TABLE}") and '"blue0"' in elements("networks")


@pytest.mark.parametrize(
    "act",
    [f"flush table {TABLE}", f"delete table {TABLE}", f"insert rule {TABLE} apart accept", f"flush set {TABLE} isolated"],
)
def test_what_somebody_else_changes_is_put_right(act: str) -> None:
    driver = Nft()
    driver.reconcile(WANT)
    nft(act)
    driver.reconcile(WANT)
    assert listing() == SHOWN


@pytest.mark.parametrize("act", [f"delete table {TABLE}", f"flush set {TABLE} isolated"])
def test_an_add_after_somebody_elses_change_is_kept_apart_all_the_same(act: str) -> None:
    driver = Nft()
    driver.reconcile(WANT)
    nft(act)
    driver.foreign_changes()
    driver.keep_apart((), ("blue0",))
    assert '"blue0"' in elements("isolated")


def test_a_successor_leaves_it_as_it_stands(tmp_path: Path) -> None:
    first = Nft(str(tmp_path / "ruleset"))
    first.reconcile(WANT)
    first.close()
    before = nft("-a list ruleset")
    assert Nft(str(tmp_path / "ruleset")).reconcile(WANT) == Outcome()
    assert nft("-a list ruleset") == before


def test_from_what_stands_nothing_is_taken_while_the_cluster_is_only_remembered(tmp_path: Path) -> None:
    first = Nft(str(tmp_path / "ruleset"))
    first.reconcile(WANT)
    first.close()
    remembered = Filter(isolated=frozenset({"blue0", "green0"}))
    successor = Nft(str(tmp_path / "ruleset"))
    successor.reconcile(remembered, complete=False)
    assert '"red0"' in elements("internal") and "10.244.0.0/16" in elements("pools4")
    assert '"green0"' in elements("isolated")
    successor.reconcile(WANT)
    assert listing() == SHOWN


def test_it_counts_what_it_drops() -> None:
    driver = Nft()
    assert "inet isolated" not in driver.drops()
    driver.reconcile(WANT)
    assert driver.drops()["inet isolated"] == Count(0, 0) == driver.drops()["inet internal"]
