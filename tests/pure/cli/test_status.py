from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from ipaddress import ip_interface, ip_network
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from netloom import __version__
from netloom.agent.state import AgentState, BlockState, DatastoreState, EngineState, PassState, ProbesState, Problem, encode
from netloom.datastore.sqlite import SqliteDatastore
from tests.pure.cli.conftest import Run, answering, fill
from tests.pure.cli.samples import CLUSTER, STATE, block, pool, resource


def test_a_network_that_is_well_is_one_screen_that_says_so(
    run: Run, cluster: SqliteDatastore, agent: AgentState, tmp_path: Path
) -> None:
    result = run("status")
    screen = re.sub(r"\b(\d+[dhms])+\b", "0s", result.stdout)
    assert result.exit_code == 0
    assert screen == dedent(
        f"""\
        netloom {__version__} · node a · 2 nodes · 3 pods · sqlite:{tmp_path}/store.db

        NODE   ADDRESSES        BLOCKS   PODS   NOTE
        a      192.168.0.1/24   1        2      this node
        b      192.168.0.2/24   1        1      -

        POOL      CIDR            ENCAPSULATION   USED           BLOCKS        NODES   DISABLED
        default   10.244.0.0/16   VXLAN           3/65536 (0%)   2/1024 (0%)   2       no

        agent {__version__} on a: ready, in sync for 0s, up 0s
        pass 7, 0s ago, took 3.1 ms: routes +2-1
        block 10.244.0.0/26 of default: 2 used, 1 cooling, 58 free

        all is well
        """
    )


def last_lines(output: str) -> list[str]:
    return output.rstrip("\n").rpartition("\n\n")[2].splitlines()


def test_an_agent_that_is_away_is_not_known_to_be_well(run: Run, cluster: SqliteDatastore, tmp_path: Path) -> None:
    result = run("status")
    assert result.exit_code == 3
    assert last_lines(result.stdout) == [
        f"? the agent does not answer on {tmp_path}/netloom.sock: nobody listens there",
        "    hint: start it: netloom agent",
    ]
    assert "NODE   ADDRESSES" in result.stdout


def test_a_datastore_that_is_away_leaves_what_the_agent_knows(run: Run, agent: AgentState, tmp_path: Path) -> None:
    result = run("status")
    assert result.exit_code == 3
    assert last_lines(result.stdout)[0] == f"? there is no datastore at {tmp_path}/store.db"
    assert "agent " in result.stdout and "block 10.244.0.0/26" in result.stdout


def test_without_a_pool_the_hint_makes_one(run: Run, store: SqliteDatastore, agent: AgentState) -> None:
    fill(store, CLUSTER[:1])
    result = run("status")
    problem, hint = last_lines(result.stdout)
    assert (result.exit_code, problem) == (1, "✗ there is no pool, so no pod gets an address")
    manifest = hint.partition("printf '%s' '")[2].partition("' | netloom apply -f -")[0]
    assert run("apply", "-f", "-", stdin=manifest).stdout == "ippool/default created\n"
    assert run("status").exit_code == 0


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        ({"ready": False}, 1, "✗ node a is not ready: new pods fail there"),
        ({"problems": (Problem(message="uplink has no address", hint="ip addr"),)}, 1, "✗ node a: uplink has no address"),
        (
            {"datastore": DatastoreState(target="sqlite:x", error="disk full")},
            1,
            "✗ node a runs without its datastore sqlite:x: disk full",
        ),
        (
            {"last_pass": PassState(number=1, revision=1, at=STATE.started, milliseconds=1, failures=("routes x: no",))},
            1,
            "✗ node a: the kernel refused 1 changes, first routes x: no",
        ),
        ({"in_sync_since": None}, 0, "! node a: the kernel does not hold yet what is wanted"),
        ({"version": "0.0.9"}, 0, f"! node a: the agent is version 0.0.9, this is {__version__}"),
    ],
)
def test_what_the_agent_finds_wrong_is_said_with_the_next_step(
    change: dict[str, object], code: int, expected: str, run: Run, cluster: SqliteDatastore, tmp_path: Path
) -> None:
    with answering(tmp_path / "netloom.sock", encode(msgspec.structs.replace(STATE, **change))):
        result = run("status")
    problem, hint = last_lines(result.stdout)
    assert (result.exit_code, problem) == (code, expected)
    assert hint.startswith("    hint: ")


def test_who_carries_tunnels_is_said_where_there_are_some(run: Run, cluster: SqliteDatastore, tmp_path: Path) -> None:
    refused = "no ebpf: Operation not permitted"
    udp = EngineState(carrier="UDP", engine="forwarder", because=refused, used=True, process=123, bulk="numpy")
    ipip = EngineState(carrier="IPIP", because="nobody can")
    with answering(tmp_path / "netloom.sock", encode(msgspec.structs.replace(STATE, engines=(ipip, udp)))):
        shown = run("status").stdout
    assert f"UDP by forwarder (process 123, numpy): {refused}" in shown
    assert "IPIP" not in shown


def test_the_nodes_address_is_said_with_the_rule_and_who_answers_probes(
    run: Run, cluster: SqliteDatastore, tmp_path: Path
) -> None:
    because = "on eth0, the interface of the default route"
    change = msgspec.structs.replace(
        STATE,
        addresses=(ip_interface("192.168.0.1/24"),),
        addresses_because=because,
        passed_over=("10.0.0.1 of eth1",),
        probes=ProbesState(asked=2, answered=1, silent=("b",)),
    )
    with answering(tmp_path / "netloom.sock", encode(change)):
        shown = run("status").stdout
    assert f"address 192.168.0.1/24: {because} (passed over: 10.0.0.1 of eth1)\n" in shown
    assert "probes: 1 of 2 nodes answer, b not\n" in shown


@pytest.mark.parametrize(("free", "starting"), [(7, "the next 7 pods start, in blocks that are claimed"), (0, "none starts")])
def test_a_datastore_that_is_away_is_said_with_since_when_what_goes_on_and_what_waits(
    free: int, starting: str, run: Run, cluster: SqliteDatastore, tmp_path: Path
) -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    six = BlockState(cidr=ip_network("fd00::/122"), pool="six", free=free)
    datastore = DatastoreState(target="sqlite:x", since=since, error="refused")
    away = msgspec.structs.replace(STATE, datastore=datastore, blocks=(*STATE.blocks, six))
    with answering(tmp_path / "netloom.sock", encode(away)):
        shown = run("status").stdout
    assert re.search(r"\ndatastore away for \w+, since 2026-01-02 03:04:05 UTC: refused\n", shown)
    assert f"\n    goes on: all traffic; pods stop, {starting}; what others" in shown
    assert "\n    waits: new blocks, new nodes and pools, what changes elsewhere;" in shown


@pytest.mark.parametrize(("held", "shown"), [(("b", "c"), "b\nc\n"), ((), "nothing is held\n")])
def test_what_the_brake_holds_is_shown(
    held: tuple[str, ...], shown: str, run: Run, cluster: SqliteDatastore, tmp_path: Path
) -> None:
    with answering(tmp_path / "netloom.sock", encode(msgspec.structs.replace(STATE, held=held))):
        result = run("system", "brake", "show")
        assert (result.exit_code, result.stdout) == (int(bool(held)), shown)
        assert json.loads(run("system", "brake", "show", "-o", "json").stdout)["held"] == list(held)


def test_a_brake_is_released_by_the_agent_alone(run: Run, cluster: SqliteDatastore) -> None:
    result = run("system", "brake", "release")
    assert result.exit_code == 3 and "nobody listens there" in result.stderr


def test_a_pool_without_blocks_left_is_a_warning(run: Run, store: SqliteDatastore, agent: AgentState) -> None:
    fill(store, (*CLUSTER[:2], pool("tiny", "10.1.0.0/26"), block("10.1.0.0/26", "a")))
    result = run("status")
    assert result.exit_code == 0
    warning = "! pool tiny: all 1 blocks are claimed; nodes that need another ask for parts of others'"
    assert last_lines(result.stdout)[0] == warning
    fill(store, (resource("IPBlockRequest", "b", {"nodeId": "1", "pools": {"tiny": 0}}),))
    waiting = "! node b has no free address of tiny left, and asks the others for a part of a block"
    assert {warning, waiting} <= set(run("status").stdout.splitlines())


def test_addresses_that_disagree_are_a_problem(run: Run, cluster: SqliteDatastore, agent: AgentState) -> None:
    cluster.delete("Node", "b")
    result = run("status")
    assert result.exit_code == 1
    assert last_lines(result.stdout) == ["✗ 2 disagreements about addresses", "    hint: netloom ipam check"]


def test_the_worst_comes_first(run: Run, store: SqliteDatastore) -> None:
    assert [line[0] for line in last_lines(run("status").stdout)[::2]] == ["?", "✗", "✗"]


def test_as_json_it_is_a_documented_shape(run: Run, cluster: SqliteDatastore, agent: AgentState) -> None:
    status = json.loads(run("status", "-o", "json").stdout)
    assert (status["apiVersion"], status["kind"], status["findings"]) == ("netloom.io/v1", "Status", [])
    assert status["cluster"] == {"nodes": ["a", "b"], "pods": 3}
    assert status["agent"]["kind"] == "AgentState"
