"""The table of published ports: as people read it, in the kernel as wanted, and there only while it is needed."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from netloom.dataplane.nft import Nft
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from netloom.model.desired import Filter, Published, Source
from netloom.reconcile import Outcome

pytestmark = pytest.mark.usefixtures("node")

GOLDEN = Path(__file__).with_name("ports.nft")
SOURCE = Source("loom00000000001", Mac("0a:58:0a:f4:00:02"), ipaddress.ip_address("10.244.0.2"))


def port(
    number: int, pod: str = "10.244.0.2", *, protocol: str = "tcp", host: str | None = None, beside: str | None = None
) -> Published:
    where, network = ipaddress.ip_address(host) if host else None, ipaddress.ip_network(beside or pod)
    interface = "br0" if beside else "loom00000000001"
    return Published(protocol, where, number, ipaddress.ip_address(pod), 80, interface, network)


WANTED = (
    port(8080, beside="10.244.0.0/26"),
    port(8080, "fd00::2", beside="fd00::/122"),
    port(53, "10.244.0.3", protocol="udp", host="127.0.0.1"),
    port(5000, "fd00::3", protocol="sctp", host="2001:db8::1"),
)


def nft(words: str) -> str:
    return subprocess.run(["nft", *words.split()], capture_output=True, text=True, check=True).stdout


def table() -> str:
    return nft("-s list table inet netloom-ports")


def as_written_down() -> bool:
    """Elements of a hash set come in any order."""
    return sorted(table().replace(",", " ").split()) == sorted(GOLDEN.read_text().replace(",", " ").split())


@pytest.fixture
def driver() -> Nft:
    made = Nft()
    made.reconcile(Filter())
    return made


def test_the_table_reads_as_written_down_and_nft_takes_it(driver: Nft) -> None:
    driver.admit([SOURCE], published=WANTED)
    assert as_written_down()
    subprocess.run(["nft", "-c", "-f", "-"], input="flush ruleset\n" + table(), text=True, check=True)
    assert driver.publishes(WANTED)


def test_it_is_there_while_a_port_is(driver: Nft) -> None:
    assert "netloom-ports" not in nft("list tables")
    driver.admit([SOURCE], published=WANTED)
    driver.withdraw(WANTED[:2], last=False)
    assert not driver.publishes(WANTED[:1]) and driver.publishes(WANTED[2:])
    driver.withdraw(WANTED[2:], last=True)
    assert "netloom-ports" not in nft("list tables")
    driver.withdraw(WANTED, last=False)  # whose DEL comes twice
    assert driver.published() == frozenset()


def test_a_pod_and_its_ports_come_together_or_not_at_all(driver: Nft) -> None:
    nft("delete table bridge netloom")
    with pytest.raises(DataplaneError):
        driver.admit([SOURCE], published=WANTED)
    assert "netloom-ports" not in nft("list tables") and "10.244.0.2" not in nft("list ruleset")
    driver.reconcile(Filter())
    driver.admit([SOURCE], published=WANTED[:1])
    with pytest.raises(DataplaneError):  # the port leads to somebody else
        driver.admit([SOURCE], published=[WANTED[0]._replace(address=ipaddress.ip_address("10.244.0.9"))])
    assert driver.publishes(WANTED[:1])


def test_a_pass_writes_the_difference_only(driver: Nft) -> None:
    assert driver.reconcile(Filter(published=frozenset(WANTED))).put
    assert driver.reconcile(Filter(published=frozenset(WANTED))) == Outcome()
    elsewhere = WANTED[0]._replace(address=ipaddress.ip_address("10.244.0.9"))
    handles = [line for line in nft("-a list table inet netloom-ports").splitlines() if "# handle" in line]
    driver.reconcile(Filter(published=frozenset((elsewhere, *WANTED[1:3]))))
    assert [line for line in nft("-a list table inet netloom-ports").splitlines() if "# handle" in line] == handles
    assert {one._replace(interface="", beside=ipaddress.ip_network(one.address)) for one in (elsewhere, *WANTED[1:3])} == set(
        driver.published()
    )
    assert driver.reconcile(Filter()).deleted
    assert "netloom-ports" not in nft("list tables")


@pytest.mark.parametrize(
    "act",
    [
        "delete table inet netloom-ports",
        "flush table inet netloom-ports",
        "flush map inet netloom-ports any6",
        "delete element inet netloom-ports beside4 { br0 . 10.244.0.0/26 }",
        "insert rule inet netloom-ports published accept",
    ],
)
@pytest.mark.parametrize("life", ["the same", "the next"])
def test_what_others_do_to_it_is_undone(tmp_path: Path, act: str, life: str) -> None:
    want = Filter(published=frozenset(WANTED))
    driver = Nft(str(tmp_path / "ruleset"))
    driver.reconcile(want)
    nft(act)
    driver = driver if life == "the same" else Nft(str(tmp_path / "ruleset"))
    assert driver.reconcile(want).put
    assert as_written_down()
    assert driver.reconcile(want) == Outcome()


def test_a_new_agent_leaves_it_as_it_stands(tmp_path: Path) -> None:
    want = Filter(published=frozenset(WANTED))
    Nft(str(tmp_path / "ruleset")).reconcile(want)
    before = nft("-a list ruleset")
    assert Nft(str(tmp_path / "ruleset")).reconcile(want, complete=False) == Outcome()
    assert nft("-a list ruleset") == before


def test_who_has_no_port_any_more_loses_the_table_of_an_earlier_life(tmp_path: Path) -> None:
    Nft(str(tmp_path / "ruleset")).reconcile(Filter(published=frozenset(WANTED)))
    assert Nft(str(tmp_path / "ruleset")).reconcile(Filter(), complete=False).deleted == 1
    assert "netloom-ports" not in nft("list tables")
    assert not (tmp_path / "ruleset-ports").exists()


def test_a_thousand_ports_in_one_transaction(driver: Nft) -> None:
    many = [port(10_000 + number, f"10.244.{number >> 8}.{number & 255}") for number in range(1000)]
    driver.admit([], published=many)
    assert driver.publishes(many)
    driver.withdraw(many[:999], last=False)
    assert {one.host_port for one in driver.published()} == {10_999}
