from __future__ import annotations

import json
import time
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from netloom.datastore.sqlite import SqliteDatastore
from netloom.ipam.claims import Claims, save
from netloom.ipam.growth import Look, history
from netloom.ipam.journal import Journal
from tests.pure.cli.conftest import Run, fill
from tests.pure.cli.samples import block, endpoint, pool
from tests.pure.ipam.making import BOOT, NETNS, attachment, key

ANSWERS = {
    "show": """
        POOL      CIDR            ENCAPSULATION   USED           BLOCKS        NODES   DISABLED
        default   10.244.0.0/16   VXLAN           3/65536 (0%)   2/1024 (0%)   2       no
        """,
    "show --blocks": """
        BLOCK            POOL      NODE   SIZE   USED   FREE
        10.244.0.0/26    default   a      64     2      59
        10.244.0.64/26   default   b      64     1      60
        """,
    "show --blocks 10.244.0.64/26": """
        BLOCK            POOL      NODE   SIZE   USED   FREE
        10.244.0.64/26   default   b      64     1      60
        """,
    "show 10.244.9.0/24": """
        POOL      CIDR            ENCAPSULATION   USED           BLOCKS        NODES   DISABLED
        default   10.244.0.0/16   VXLAN           3/65536 (0%)   2/1024 (0%)   2       no
        """,
    "find 10.244.0.66/32": """
        address:   10.244.0.66
        pool:      default (10.244.0.0/16)
        block:     10.244.0.64/26
        node:      b
        use:       a pod
        pod:       shop/db-0
        interface: eth0, on the host loom00000000042
        """,
    "find 10.244.0.2": """
        address:   10.244.0.2
        pool:      default (10.244.0.0/16)
        block:     10.244.0.0/26
        node:      a
        use:       a pod
        pod:       shop/web-0
        interface: eth0, on the host loom00000000002
        """,
    "find 10.244.0.9": """
        address:   10.244.0.9
        pool:      default (10.244.0.0/16)
        block:     10.244.0.0/26
        node:      a
        use:       reserved by printers
        """,
    "find 10.244.0.64": """
        address:   10.244.0.64
        pool:      default (10.244.0.0/16)
        block:     10.244.0.64/26
        node:      b
        use:       the node itself: its tunnel device
        """,
    "find 10.244.9.9": """
        address:   10.244.9.9
        pool:      default (10.244.0.0/16)
        block:     10.244.9.0/26, claimed by no node
        node:      -
        use:       free
        """,
    "find db-0": """
        NAMESPACE   NAME   ADDRESSES     NODE
        shop        db-0   10.244.0.66   b
        """,
    "check": """
        2 blocks, 3 pod interfaces, 2 nodes: all agree
        """,
}


@pytest.mark.parametrize("arguments", ANSWERS)
def test_an_answer_about_addresses_is_short(arguments: str, run: Run, cluster: SqliteDatastore) -> None:
    result = run("ipam", *arguments.split())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == dedent(ANSWERS[arguments]).lstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "kind", "field", "value"),
    [
        ("show", "PoolUseList", "items", {"name": "default", "used": 3, "addresses": 65536, "blocks": 2, "slots": 1024}),
        ("show --blocks", "BlockUseList", "items", {"cidr": "10.244.0.0/26", "node": "a", "size": 64, "used": 2, "free": 59}),
        ("find db-0", "List", "items", {"apiVersion": "netloom.io/v1", "kind": "Endpoint"}),
    ],
)
def test_as_json_figures_are_figures(
    arguments: str, kind: str, field: str, value: dict[str, object], run: Run, cluster: SqliteDatastore
) -> None:
    document = json.loads(run("ipam", *arguments.split(), "-o", "json").stdout)
    assert (document["apiVersion"], document["kind"]) == ("netloom.io/v1", kind)
    assert value.items() <= document[field][0].items()


def test_an_address_and_a_check_are_documents_too(run: Run, cluster: SqliteDatastore) -> None:
    found = yaml.safe_load(run("ipam", "find", "10.244.0.2", "-o", "yaml").stdout)
    assert (found["kind"], found["address"], found["pod"]) == ("AddressUse", "10.244.0.2", "shop/web-0")
    checked = json.loads(run("ipam", "check", "-o", "json").stdout)
    assert checked == {"apiVersion": "netloom.io/v1", "kind": "AddressCheck", "ok": True, "findings": []}


def test_pools_say_when_they_run_out(run: Run, cluster: SqliteDatastore, tmp_path: Path) -> None:
    def looked(claimed: int) -> list[str]:
        looks = [Look(time.time() - 2 * 86400 - 5, {"default": claimed})]
        (tmp_path / "growth.json").write_bytes(history(looks))
        return run("ipam", "show").stdout.splitlines()[2:]

    [grows] = looked(80)
    assert grows.startswith("pool default will run out of free blocks in 2725d"), grows
    assert grows.endswith(": 1 addresses an hour have been claimed in the last 2d0h")
    document = json.loads(run("ipam", "show", "-o", "json").stdout)
    assert document["items"][0]["claimed_per_hour"] == pytest.approx(1.0, rel=0.01)
    assert looked(128) == ["no growth: no pool has more claimed than 2d0h ago"]


def test_a_pool_too_large_to_count_shows_what_is_used(run: Run, store: SqliteDatastore) -> None:
    fill(store, (pool("six", "fd00::/48"),))
    assert run("ipam", "show").stdout.splitlines()[1].split() == ["six", "fd00::/48", "None", "0", "0", "0", "no"]


def test_without_a_pool_the_next_step_is_named(run: Run, store: SqliteDatastore) -> None:
    result = run("ipam", "show")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "there is no pool" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        ("find 1.2.3.4", 1, "1.2.3.4 is in no pool"),
        ("find shop/nobody", 1, "there is no pod shop/nobody, and it is no address"),
        ("show x/y", 2, "'x/y' is no prefix"),
    ],
)
def test_what_is_not_found_is_a_clear_no(arguments: str, code: int, error: str, run: Run, cluster: SqliteDatastore) -> None:
    result = run("ipam", *arguments.split())
    first, last = result.stderr.splitlines()
    assert (result.exit_code, first) == (code, f"error: {error}")
    assert last.startswith("hint: netloom") or "netloom get" in last


def test_what_a_node_left_behind_is_found_and_taken_away(run: Run, cluster: SqliteDatastore) -> None:
    fill(cluster, (block("10.244.0.128/26", "gone"), endpoint("lost", "shop", "gone", "10.244.0.130")))
    found = run("ipam", "check")
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "✗ 10.244.0.128/26 is claimed by node gone, which does not exist",
        "✗ pod shop/lost is on node gone, which does not exist",
        "3 blocks, 4 pod interfaces, 2 nodes: 2 problems",
    ]
    assert found.stderr == "hint: 2 can be repaired: netloom ipam check --repair\n"
    repaired = run("ipam", "check", "--repair")
    assert (repaired.exit_code, repaired.stdout.splitlines()[-1]) == (
        0,
        "3 blocks, 4 pod interfaces, 2 nodes: 2 problems, 2 repaired",
    )
    assert run("ipam", "check").exit_code == 0


def test_what_a_person_has_to_decide_is_not_repaired(run: Run, cluster: SqliteDatastore) -> None:
    fill(cluster, (endpoint("stray", "shop", "a", "10.244.0.67"),))
    result = run("ipam", "check", "--repair")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        "✗ pod shop/stray on node a uses 10.244.0.67, which node b has claimed",
        "    netloom ipam find 10.244.0.67",
    ]


def test_what_this_node_alone_knows_is_compared_too(run: Run, cluster: SqliteDatastore, tmp_path: Path) -> None:
    journal = Journal.rebuild(f"{tmp_path}/journal", BOOT, NETNS)
    journal.intend(attachment("new", journal.next_sequence(), "10.244.0.5/32"))
    journal.commit(key("new"))
    save(f"{tmp_path}/claims.json", Claims(node="a", node_id="a-1"))
    found = run("ipam", "check").stdout
    assert "✗ pod default/new is attached and has no endpoint" in found
    assert "✗ endpoint shop/loom00000000002 is not attached on this node any more" in found
    run("ipam", "check", "--repair")
    assert cluster.get("Endpoint", "shop/loom00000000002") is None
    journal.close()


def test_a_journal_that_cannot_be_read_is_said_and_the_rest_is_checked(
    run: Run, cluster: SqliteDatastore, tmp_path: Path
) -> None:
    (tmp_path / "journal").write_bytes(b"nonsense\n")
    result = run("ipam", "check")
    assert result.stdout == "2 blocks, 3 pod interfaces, 2 nodes: all agree\n"
    assert result.stderr == "note: without this node's own journal: line 1: the checksum does not fit\n"
