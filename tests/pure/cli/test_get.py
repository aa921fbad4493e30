from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from click.shell_completion import ShellComplete

from netloom.agent.state import AgentState
from netloom.cli.root import netloom
from netloom.datastore.sqlite import SqliteDatastore
from tests.pure.cli.conftest import Run, fill
from tests.pure.cli.samples import pool, resource

TABLES = {
    "nodes": """
        NAME   ADDRESSES        TUNNEL   MTU    DRAINED
        a      192.168.0.1/24   -        1500   -
        b      192.168.0.2/24   -        1500   -
        """,
    "nodes -o wide": """
        NAME   ADDRESSES        TUNNEL   MTU    DRAINED   AS   RECEIVES   SENDS   VTEP-MAC   ID     LABELS
        a      192.168.0.1/24   -        1500   -         -    -          -       -          id-a   rack=1
        b      192.168.0.2/24   -        1500   -         -    -          -       -          id-b   -
        """,
    "pods -A": """
        NAMESPACE   NAME    ADDRESSES     NODE
        default     tool    10.244.0.3    a
        shop        db-0    10.244.0.66   b
        shop        web-0   10.244.0.2    a
        """,
    "pods -n shop -o wide": """
        NAMESPACE   NAME    ADDRESSES     NODE   INTERFACE   PORTS         INGRESS     EGRESS       HOST-INTERFACE    MAC                 NETWORK   SANDBOX     LABELS
        shop        db-0    10.244.0.66   b      eth0        -             -           -            loom00000000042   0a:58:0a:f4:00:42   netloom   sandbox66   app=db
        shop        web-0   10.244.0.2    a      eth0        8080:80/tcp   10 Mbit/s   1.5 kbit/s   loom00000000002   0a:58:0a:f4:00:02   netloom   sandbox2    app=web
        """,
    "pods": """
        NAMESPACE   NAME   ADDRESSES    NODE
        default     tool   10.244.0.3   a
        """,
    "pods -A -l app=web": """
        NAMESPACE   NAME    ADDRESSES    NODE
        shop        web-0   10.244.0.2   a
        """,
    "pod shop/db-0": """
        NAMESPACE   NAME   ADDRESSES     NODE
        shop        db-0   10.244.0.66   b
        """,
    "pools": """
        NAME      CIDR            BLOCK-SIZE   ENCAPSULATION   NAT-OUTGOING   DISABLED
        default   10.244.0.0/16   26           VXLAN           yes            no
        """,
    "ippools -o wide": """
        NAME      CIDR            BLOCK-SIZE   ENCAPSULATION   NAT-OUTGOING   DISABLED   NODES   NAMESPACES   NETWORK   GATEWAY   RANGE   INTERNAL   ISOLATED
        default   10.244.0.0/16   26           VXLAN           yes            no         all()   all()        -         -         -       -          -
        """,
    "blocks": """
        NAME             CIDR             NODE
        10-244-0-0-26    10.244.0.0/26    a
        10-244-0-64-26   10.244.0.64/26   b
        """,
    "namespaces": """
        NAME   LABELS
        shop   team=web
        """,
    "reservations": """
        NAME       RESERVED
        printers   10.244.0.8/30
        """,
    "endpoints -n shop": """
        NAMESPACE   NAME              POD     ADDRESSES     NODE
        shop        loom00000000002   web-0   10.244.0.2    a
        shop        loom00000000042   db-0    10.244.0.66   b
        """,
    "routes": """
        DESTINATION      VIA           DEVICE            METRIC       FOR         OWNER
        10.244.0.2/32    -             loom00000000002   0            pod         shop/web-0
        10.244.0.64/26   10.244.0.64   loom.vxlan        70000        node        b
        10.244.0.0/26    -             -                 4294967040   blackhole   -
        """,
    "routes 10.244.0.70": """
        DESTINATION      VIA           DEVICE       METRIC   FOR    OWNER
        10.244.0.64/26   10.244.0.64   loom.vxlan   70000    node   b
        """,
    "routes shop/web-0 -o wide": """
        DESTINATION     VIA   DEVICE            METRIC   FOR   OWNER        POOL      ENCAPSULATION   PROTOCOL   WHY
        10.244.0.2/32   -     loom00000000002   0        pod   shop/web-0   default   -               netloom    a pod of this node
        """,
    "routes -o wide": """
        DESTINATION      VIA             DEVICE            METRIC       FOR         OWNER        POOL      ENCAPSULATION     PROTOCOL   WHY
        10.244.0.2/32    -               loom00000000002   0            pod         shop/web-0   default   -                 netloom    a pod of this node
        10.244.0.64/26   10.244.0.64     loom.vxlan        70000        node        b            default   VXLAN:4096:4789   netloom    VXLAN, by pool default
        10.244.0.0/26    -               -                 4294967040   blackhole   -            -         -                 netloom    the kernel does not hold it
        0.0.0.0/0        192.168.0.254   eth0              0            foreign     dhcp         -         -                 dhcp       -
        10.99.0.0/24     192.168.0.9     eth0              600          bird        bird         -         -                 bird       by BGP
        10.244.9.0/26    192.168.0.9     eth0              7            foreign     netloom      -         -                 netloom    it has our mark, and the agent does not want it
        192.168.0.0/24   -               eth0              0            foreign     kernel       -         -                 kernel     by an address of eth0
        """,
    "pods -A -o name": """
        pod/default/tool
        pod/shop/db-0
        pod/shop/web-0
        """,
    "nodes -o name": """
        node/a
        node/b
        """,
}


@pytest.mark.parametrize("arguments", TABLES)
def test_a_table_has_headers_and_neither_borders_nor_cuts(
    arguments: str, run: Run, cluster: SqliteDatastore, agent: AgentState
) -> None:
    result = run("get", *arguments.split())
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == dedent(TABLES[arguments]).lstrip("\n")


def test_a_pool_of_a_network_says_whose_and_where_it_is(run: Run, cluster: SqliteDatastore) -> None:
    cluster.create(pool("blue", "172.20.0.0/16", network="blue", node="a", natOutgoing=True, ipRange="172.20.8.0/24"))
    assert [line.split()[6:] for line in run("get", "pools", "-o", "wide").stdout.splitlines()] == [
        ["NODES", "NAMESPACES", "NETWORK", "GATEWAY", "RANGE", "INTERNAL", "ISOLATED"],
        ["a", "all()", "blue", "172.20.0.1", "172.20.8.0/24", "no", "yes"],
        ["all()", "all()", "-", "-", "-", "-", "-"],
    ]


@pytest.mark.parametrize("kind", ["pool", "pools", "ippool", "ippools", "IPPool", "IPPools"])
def test_a_kind_has_the_names_that_people_know(kind: str, run: Run, cluster: SqliteDatastore) -> None:
    assert run("get", kind, "default", "-o", "name").stdout == "pool/default\n"


def test_kind_and_name_may_be_one_word(run: Run, cluster: SqliteDatastore) -> None:
    assert run("get", "pod/shop/web-0", "-o", "name").stdout == "pod/shop/web-0\n"


def test_one_object_is_itself_and_several_are_a_list(run: Run, cluster: SqliteDatastore) -> None:
    one = json.loads(run("get", "node", "a", "-o", "json").stdout)
    several = yaml.safe_load(run("get", "nodes", "-o", "yaml").stdout)
    assert (one["apiVersion"], one["kind"], one["metadata"]["name"]) == ("netloom.io/v1", "Node", "a")
    assert (several["kind"], [item["metadata"]["name"] for item in several["items"]]) == ("List", ["a", "b"])
    assert several["items"][0] == one


def test_routes_as_json_are_a_documented_shape(run: Run, agent: AgentState) -> None:
    routes = json.loads(run("get", "routes", "-o", "json").stdout)
    assert (routes["kind"], routes["items"][1]["via"], routes["items"][1]["kind"]) == ("RouteList", "10.244.0.64", "node")


def test_settings_can_be_asked_for(run: Run) -> None:
    assert json.loads(run("get", "config", "nodeName", "mtu", "-o", "json").stdout) == {"nodeName": "a", "mtu": 0}


@pytest.mark.parametrize(("output", "stdout"), [("table", ""), ("json", None)])
def test_nothing_found_is_no_failure(output: str, stdout: str | None, run: Run, store: SqliteDatastore) -> None:
    result = run("get", "pods", "-o", output)
    assert result.exit_code == 0
    if stdout is None:
        assert json.loads(result.stdout)["items"] == []
    else:
        assert (result.stdout, result.stderr) == ("", "note: no pods in namespace default; -A looks in all\n")


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        ("get pool nope", 1, "there is no pool nope", "see what there is: netloom get pools"),
        ("get pods web-0", 1, "there is no pod web-0", "see what there is: netloom get pods -A"),
        ("get routes 1.2.3.4", 1, "no route of ours leads to 1.2.3.4", "see them all: netloom get routes"),
        ("get config nope", 1, "there is no setting nope", "see them all: netloom get config"),
        ("get policies", 2, "'policies' is not a kind", "kinds: nodes, pods, pools, blocks"),
        ("get node a/b", 2, "'a/b': nodes have no namespace", "netloom get nodes"),
        ("get pods -l a=b=c", 2, "-l: 'a=b=c' is no label selector", "for example: -l"),
        ("get routes -w", 2, "-w: routes cannot be watched", "netloom get pods -w"),
        ("get", 2, "Missing argument 'KIND'", "netloom get --help"),
        ("get pods -o xml", 2, "Invalid value for '-o'", "netloom get --help"),
        ("frobnicate", 2, "No such command 'frobnicate'", "netloom --help"),
    ],
)
def test_a_failure_says_what_and_what_to_type_next(
    arguments: str, code: int, error: str, hint: str, run: Run, cluster: SqliteDatastore, agent: AgentState
) -> None:
    result = run(*arguments.split())
    first, last = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (code, "")
    assert first.startswith(f"error: {error}")
    assert last.startswith("hint: ") and hint in last


def test_a_datastore_that_is_not_there_is_not_made_by_asking(run: Run, tmp_path: Path) -> None:
    result = run("get", "pods")
    assert (result.exit_code, os.listdir(tmp_path)) == (3, [])
    assert result.stderr.endswith("hint: netloom agent makes it; or say where it is: --datastore sqlite:PATH\n")


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("memory:", 3, "error: the datastore memory: is inside one agent, and no other program sees it\nhint: say where"),
        ("sqlite:", 2, "error: datastore: 'sqlite:' names no datastore\nhint: write sqlite:/"),
        ("consul:a", 2, "error: datastore: 'consul:a' names no datastore\nhint: write sqlite:/"),
        ("etcd:a", 2, "error: datastore: 'a' is no server\nhint: write etcd:https://"),
        ("sqlite:/dev/null/x", 3, "error: the datastore /dev/null/x cannot be reached: Not a directory\nhint: say where"),
    ],
)
def test_a_datastore_that_cannot_be_one_is_refused(target: str, code: int, words: str, run: Run) -> None:
    result = run("get", "pods", "--datastore", target)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(words)


def test_an_agent_that_is_away_is_no_clear_no(run: Run) -> None:
    result = run("get", "routes")
    assert result.exit_code == 3
    assert "the agent does not answer" in result.stderr and "nobody listens there" in result.stderr


def test_a_record_that_cannot_be_read_is_named_and_the_others_are_shown(
    run: Run, cluster: SqliteDatastore, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "store.db")) as db, db:
        db.execute("UPDATE records SET value = '{' WHERE kind = 'Node' AND key = 'a'")
    result = run("get", "nodes", "-o", "name")
    assert (result.exit_code, result.stdout) == (0, "node/b\n")
    assert result.stderr.startswith("note: Node/a cannot be read, and is passed over: ")


def test_flags_may_stand_before_and_after_the_command(run: Run, cluster: SqliteDatastore, tmp_path: Path) -> None:
    other = f"sqlite:{tmp_path}/other.db"
    SqliteDatastore(other.removeprefix("sqlite:")).close()
    assert (
        run("--datastore", other, "get", "nodes").stderr
        == run("get", "nodes", "--datastore", other).stderr
        == "note: no nodes\n"
    )


def test_control_characters_never_reach_the_terminal(run: Run, store: SqliteDatastore) -> None:
    hostile = "\x1b[2J\x9b31m\u202egnp.exe"
    fill(store, (resource("Namespace", "a", annotations={"note": hostile}),))
    result = run("get", "ns", "a", "-o", "json")
    assert json.loads(result.stdout)["metadata"]["annotations"] == {"note": hostile}
    assert result.stdout.replace("\n", "").isprintable()
    as_yaml = run("get", "ns", "a", "-o", "yaml").stdout
    assert as_yaml.replace("\n", "").isprintable()
    assert yaml.safe_load(as_yaml)["metadata"]["annotations"] == {"note": hostile}
    error = run("get", "nodes", hostile).stderr
    assert "\\x1b[2J\\x9b31m\\u202egnp.exe" in error and "\x1b" not in error


def test_a_watch_prints_what_is_there_and_then_every_change_until_it_is_interrupted(
    cluster: SqliteDatastore, tmp_path: Path
) -> None:
    target = f"sqlite:{tmp_path}/store.db"
    arguments = [sys.executable, "-m", "netloom", "get", "pools", "-w", "--datastore", target]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = [process.stdout.readline().split()[:3] for _ in range(2)]
        revision = cluster.create(pool("more", "10.9.0.0/16"))
        second = process.stdout.readline().split()[:3]
        revision = cluster.update(pool("more", "10.9.0.0/16", disabled=True), revision)
        cluster.delete("IPPool", "more", revision)
        rest = [process.stdout.readline().split()[:2] for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert first == [["EVENT", "NAME", "CIDR"], ["ADDED", "default", "10.244.0.0/16"]]
    assert second == ["ADDED", "more", "10.9.0.0/16"]
    assert rest == [["MODIFIED", "more"], ["DELETED", "more"]]


def complete(*words: str) -> list[str]:
    completion = ShellComplete(netloom, {}, "netloom", "_NETLOOM_COMPLETE")
    return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]


def test_the_shell_completes_commands_kinds_and_names(
    cluster: SqliteDatastore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLOOM_DATASTORE", f"sqlite:{tmp_path}/store.db")
    assert complete("sta") == ["status"]
    assert complete("get", "po") == ["pods", "pools"]
    assert complete("get", "pods", "shop/w") == ["shop/web-0"]
    assert complete("delete", "pool", "") == ["default"]


def test_the_shell_completes_nothing_where_the_datastore_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETLOOM_DATASTORE", "sqlite:/nonexistent/store.db")
    assert complete("get", "pods", "") == []
