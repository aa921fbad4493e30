"""The driver against the kernel: one transaction at a time, and the kernel's elements are the truth."""

from __future__ import annotations

import ipaddress
import itertools
import select
import subprocess
import threading

import pytest

from netloom.dataplane import netns
from netloom.dataplane.nft import Nft
from netloom.dataplane.nft.nfnetlink import Nfnetlink
from netloom.dataplane.nft.objects import INET, TableId, add_chain, add_table
from netloom.errors import DataplaneError
from netloom.model.addresses import Mac
from netloom.model.desired import Filter, Outer, Source
from netloom.reconcile import Outcome

pytestmark = pytest.mark.usefixtures("node")


def pod(number: int) -> tuple[Source, ...]:
    """Both sources of a pod with two families."""
    mac = Mac(f"0a:58:0a:f4:{number >> 8:02x}:{number & 255:02x}")
    addresses = (ipaddress.ip_address("10.244.0.0") + number, ipaddress.ip_address("fd00:10:244::") + number)
    return tuple(Source(f"loom{number:011x}", mac, address) for address in addresses)


def filter_of(*pods: int, vteps: int = 1) -> Filter:
    return Filter(
        sources=frozenset(itertools.chain.from_iterable(map(pod, pods))),
        pools=frozenset({ipaddress.ip_network("10.244.0.0/16")}),
        masquerade=frozenset({ipaddress.ip_network("10.244.0.0/16")}),
        vteps=frozenset(ipaddress.ip_address("192.0.2.0") + number for number in range(vteps)),
        outers=frozenset({Outer(17, 4789)}),
    )


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], capture_output=True, text=True, check=True).stdout


def rules() -> str:
    return nft("-s", "list", "ruleset")


@pytest.fixture
def driver() -> Nft:
    return Nft()


def test_the_first_pass_builds_everything_and_the_second_nothing(driver: Nft) -> None:
    assert driver.reconcile(filter_of(1, 2)).put
    assert str(driver.reconcile(filter_of(1, 2))) == "same"
    assert driver.admits([*pod(1), *pod(2)])


def test_a_new_agent_takes_over_what_an_old_one_left(driver: Nft) -> None:
    driver.reconcile(filter_of(1, 2))
    nft("add", "rule", "inet", "netloom", "input", "drop")
    successor = Nft()
    successor.reconcile(filter_of(2))
    assert rules().count("drop comment") == rules().count(" drop")
    assert not successor.admits(pod(1))
    assert successor.admits(pod(2))


def test_only_differing_elements_are_written(driver: Nft) -> None:
    driver.reconcile(filter_of(1, 2))
    handles = nft("-a", "list", "table", "inet", "netloom")
    outcome = driver.reconcile(filter_of(2, 3, vteps=2))
    assert (outcome.put, outcome.deleted) == (5 + 1, 5)
    kept = [line.split("# handle")[1] for line in handles.splitlines() if "# handle" in line]
    assert kept == [
        line.split("# handle")[1] for line in nft("-a", "list", "table", "inet", "netloom").splitlines() if "# handle" in line
    ]


@pytest.mark.parametrize(
    ("pools", "inside", "outside"),
    [
        (["10.0.0.0/8"], "10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0"),
        (["10.0.0.0/9", "10.128.0.0/10"], "10.0.0.0 10.191.255.255", "9.255.255.255 10.192.0.0"),
        (["10.0.0.0/16", "10.2.0.0/16"], "10.0.255.255 10.2.0.0", "10.1.0.0 10.1.255.255"),
        (["0.0.0.0/0"], "0.0.0.0 127.0.0.1 255.255.255.255", ""),
        (["255.0.0.0/8"], "255.0.0.0 255.255.255.255", "254.255.255.255"),
    ],
)
def test_pools_may_change_shape(driver: Nft, pools: list[str], inside: str, outside: str) -> None:
    driver.reconcile(filter_of(1))
    want = Filter(pools=frozenset(map(ipaddress.ip_network, pools)), masquerade=filter_of().masquerade)
    assert driver.reconcile(want).deleted
    assert str(driver.reconcile(want)) == "same"
    contains = ("nft", "get", "element", "inet", "netloom", "pools4")
    held = {
        address: not subprocess.run([*contains, f"{{ {address} }}"], capture_output=True).returncode
        for address in (inside + " " + outside).split()
    }
    assert held == dict.fromkeys(inside.split(), True) | dict.fromkeys(outside.split(), False)


def test_a_pod_is_admitted_and_expelled_as_often_as_one_likes(driver: Nft) -> None:
    driver.reconcile(filter_of(1))
    driver.admit(pod(7))
    driver.admit(pod(7))
    assert driver.admits(pod(7))
    assert nft("list", "set", "bridge", "netloom", "targets").count("loom00000000007") == 1
    driver.expel(pod(7))
    driver.expel(pod(7))
    driver.expel([*pod(7), *pod(8)])
    assert not driver.admits(pod(7))
    assert str(driver.reconcile(filter_of(1))) == "same"


def test_expelling_one_that_is_half_there_leaves_nothing(driver: Nft) -> None:
    driver.reconcile(Filter())
    driver.admit(pod(7)[:1])
    driver.expel(pod(7))
    assert "loom00000000007" not in rules()


def test_admitting_into_missing_tables_is_an_error_that_names_the_set(driver: Nft) -> None:
    with pytest.raises(DataplaneError, match="set inet netloom sources4"):
        driver.admit(pod(1))


def test_a_refused_transaction_changes_nothing_and_names_the_message() -> None:
    kernel = Nfnetlink()
    table = TableId(INET, "probe")
    with pytest.raises(DataplaneError, match="chain inet missing input") as refusal:
        kernel.transact([add_table(table), add_chain(TableId(INET, "missing"), "input"), add_chain(table, "input")])
    assert refusal.value.errno == 2
    assert rules() == ""
    kernel.transact([add_table(table)])


ACTS = pytest.mark.parametrize(
    "act",
    [
        ("flush", "ruleset"),
        ("delete", "table", "inet", "netloom"),
        ("delete", "table", "arp", "netloom"),
        ("delete", "table", "bridge", "netloom"),
        ("flush", "chain", "inet", "netloom", "packet"),
        ("flush", "set", "inet", "netloom", "sources4"),
        ("insert", "rule", "inet", "netloom", "packet", "accept"),
        ("insert", "rule", "bridge", "netloom", "prerouting", "accept"),
        ("add", "element", "inet", "netloom", "own-links", "{ loom00000000001 }"),
        ("add", "chain", "inet", "netloom", "extra", "{ type filter hook input priority 0; policy drop; }"),
        ("chain", "inet", "netloom", "prerouting", "{ policy drop; }"),
    ],
    ids=" ".join,
)


@ACTS
def test_what_others_did_to_our_tables_is_heard_and_repaired(driver: Nft, act: tuple[str, ...]) -> None:
    driver.reconcile(filter_of(1, 2))
    before = rules()
    nft(*act)
    assert select.select([driver], [], [], 1)[0]
    changes = driver.foreign_changes()
    assert {change.table.name for change in changes if change.table} == {"netloom"}
    assert all(change.process.startswith("nft[") for change in changes)
    assert driver.reconcile(filter_of(1, 2)).put
    assert sorted(rules().split()) == sorted(before.split())
    assert str(driver.reconcile(filter_of(1, 2))) == "same"


@ACTS
def test_it_is_repaired_too_where_the_cluster_is_only_remembered(act: tuple[str, ...]) -> None:
    Nft().reconcile(filter_of(1))
    driver = Nft()
    assert driver.reconcile(filter_of(1), complete=False) == Outcome()
    before = rules()
    nft(*act)
    assert driver.reconcile(filter_of(1), complete=False).put
    assert sorted(rules().split()) == sorted(before.split())


@pytest.mark.parametrize("family", ["inet", "bridge", "arp"])
def test_a_remembered_cluster_takes_nothing_from_what_stands_and_builds_what_is_missing(family: str) -> None:
    Nft().reconcile(filter_of(1, 2, vteps=5))
    driver = Nft()
    driver.reconcile(filter_of(2, 3), complete=False)
    assert driver.admits([*pod(1), *pod(2), *pod(3)]) and "192.0.2.4" in rules()
    nft("delete", "table", family, "netloom")
    assert Nft().reconcile(filter_of(2, 3), complete=False).put
    assert rules().count("table") == 3 and driver.admits([*pod(2), *pod(3)])


def test_a_repair_does_not_wait_for_somebody_to_ask_what_happened(driver: Nft) -> None:
    driver.reconcile(filter_of(1))
    nft("flush", "ruleset")
    assert driver.reconcile(filter_of(1)).put
    assert driver.admits(pod(1))
    assert {change.table.name for change in driver.foreign_changes() if change.table} == {"netloom"}, "and is told who did it"
    assert driver.foreign_changes() == ()


def test_own_changes_are_no_news(driver: Nft) -> None:
    driver.reconcile(filter_of(1))
    driver.admit(pod(2))
    driver.expel(pod(2))
    driver.reconcile(filter_of(3))
    assert not select.select([driver], [], [], 0)[0]


def test_changes_to_other_tables_are_told_and_rebuild_nothing(driver: Nft) -> None:
    driver.reconcile(filter_of(1))
    nft("add", "table", "inet", "firewalld")
    assert [str(change.table) for change in driver.foreign_changes()] == ["inet firewalld"]
    assert str(driver.reconcile(filter_of(1))) == "same"


def test_lost_events_count_as_a_change_of_everything(driver: Nft) -> None:
    driver.reconcile(filter_of(1))
    driver._events._socket.setsockopt(1, 33, 4096)  # SO_RCVBUFFORCE
    nft("add table inet elsewhere;" + "".join(f"add chain inet elsewhere c{number};" for number in range(500)))
    assert None in {change.table for change in driver.foreign_changes()}
    assert driver.reconcile(filter_of(1)).put


def test_tables_of_others_stay_as_they_are(driver: Nft) -> None:
    nft("add", "table", "ip", "netloom")
    nft("add", "chain", "ip", "netloom", "input", "{ type filter hook input priority 0; }")
    nft("add", "table", "inet", "other")
    nft("add", "set", "inet", "other", "sources4", "{ type ifname; }")
    foreign = rules()
    driver.reconcile(filter_of(1))
    driver.reconcile(filter_of(2))
    driver.remove()
    assert rules() == foreign


def test_thousands_of_elements_go_in_one_transaction(driver: Nft) -> None:
    want = filter_of(*range(1, 600), vteps=6000)
    driver.reconcile(filter_of(1))
    outcome = driver.reconcile(want)
    assert outcome.put == 598 * 5 + 5999
    assert str(driver.reconcile(want)) == "same"


def test_no_packet_sees_the_ruleset_half_built(driver: Nft, node: int) -> None:
    """Seen through dumps, which the kernel takes of one generation: the table is whole, or it is another whole one."""
    driver.reconcile(filter_of(1))
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        with netns.entered(node):
            while not stop.is_set():
                seen.add(rules().count(" comment "))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(60):
            Nft().reconcile(filter_of(number))
    finally:
        stop.set()
        watcher.join()
    assert seen == {rules().count(" comment ")}
