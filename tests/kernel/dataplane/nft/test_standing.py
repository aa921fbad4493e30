"""A new agent leaves rules as they are where they are those that the one before built, and builds them where they are not."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane.nft import Nft
from netloom.model.addresses import Mac
from netloom.model.desired import Filter, Outer, Source
from netloom.reconcile import Outcome

pytestmark = pytest.mark.usefixtures("node")

POOLS = frozenset({ipaddress.ip_network("10.244.0.0/16"), ipaddress.ip_network("fd00:244::/48")})
SOURCE = Source("loom00000000001", Mac("0a:58:0a:f4:00:02"), ipaddress.ip_address("10.244.0.2"))
WANT = Filter(sources=frozenset({SOURCE}), pools=POOLS, masquerade=POOLS, outers=frozenset({Outer(17, 4789)}))

ACTS = {
    "the ruleset was flushed": "flush ruleset",
    "a table was deleted": "delete table bridge netloom",
    "a rule was added": "insert rule inet netloom prerouting accept",
    "a chain was flushed": "flush chain inet netloom packet",
    "a chain was added": "add chain arp netloom mine",
    "a chain was added that hooks": "add chain inet netloom mine { type filter hook forward priority 0; policy drop; }",
    "a set was added": "add set inet netloom mine { type ipv4_addr; }",
}


def nft(words: str) -> str:
    return subprocess.run(["nft", *words.split()], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def record(tmp_path: Path) -> str:
    """Where an agent has put down what it built."""
    driver = Nft(str(tmp_path / "ruleset"))
    assert driver.reconcile(WANT).put
    driver.close()
    return str(tmp_path / "ruleset")


def test_what_stands_is_left_as_it_is(record: str) -> None:
    before = nft("-a list ruleset")
    assert Nft(record).reconcile(WANT) == Outcome()
    assert nft("-a list ruleset") == before


def test_elements_are_compared_all_the_same(record: str) -> None:
    nft("flush set inet netloom sources4")
    driver = Nft(record)
    assert driver.reconcile(WANT) == Outcome(put=1)
    assert driver.admits([SOURCE])


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_somebody_else_changed_meanwhile_is_built_anew(record: str, act: str) -> None:
    sound = nft("-s list ruleset")
    nft(act)
    assert nft("-s list ruleset") != sound
    assert Nft(record).reconcile(WANT).put > 50
    assert nft("-s list ruleset") == sound
    assert Nft(record).reconcile(WANT) == Outcome()


@pytest.mark.parametrize("content", ["", "nonsense", "\0" * 100])
def test_a_record_that_says_nothing_means_building(record: str, content: str) -> None:
    Path(record).write_text(content, encoding="ascii")
    assert Nft(record).reconcile(WANT).put > 50
    assert Nft(record).reconcile(WANT) == Outcome()


def test_other_rules_are_built_anew(record: str) -> None:
    assert Nft(record).reconcile(Filter(sources=WANT.sources, pools=POOLS, outers=frozenset({Outer(17, 4789)}))).put > 50
