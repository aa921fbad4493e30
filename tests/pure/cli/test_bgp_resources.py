"""What says who speaks BGP, from manifests and back; and passwords, which come back to nobody."""

from __future__ import annotations

import pytest

from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import Node
from tests.pure.cli.conftest import Run

ALL = """\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {asNumber: 64512, listenPort: 1790, serviceClusterIPs: [{cidr: 10.96.0.0/12}]}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 192.0.2.254, asNumber: 64513, filters: [in], password: {secretKeyRef: {name: fabric, key: tor}}}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: in}
spec: {importV4: [{action: Reject, cidr: 10.0.0.0/8, matchOperator: In}]}
---
apiVersion: v1
kind: Secret
metadata: {name: fabric, namespace: kube-system}
stringData: {tor: hush}
---
apiVersion: netloom.io/v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.10], externalTrafficPolicy: Local, nodes: [a]}
"""
BGP = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: %s}\nspec: {bgp: {asNumber: 65001}}\n"


@pytest.fixture
def applied(run: Run, store: SqliteDatastore) -> Run:
    assert run("apply", "-f", "-", stdin=ALL).exit_code == 0
    return run


def test_tables_show_what_matters(applied: Run) -> None:
    assert applied("get", "bgpconfigurations").stdout == (
        "NAME      MESH   AS      PORT   BIND\ndefault   yes    64512   1790   -\n"
    )
    assert applied("get", "bgppeers", "-o", "wide").stdout == (
        "NAME   PEER          NODES   AS      LOCAL-AS   FILTERS   PASSWORD     BFD\n"
        "tor    192.0.2.254   all()   64513   -          in        fabric/tor   no\n"
    )
    assert applied("get", "bgpfilters").stdout == (
        "NAME   IMPORT-V4   EXPORT-V4   IMPORT-V6   EXPORT-V6\nin     1           0           0           0\n"
    )
    assert applied("get", "secrets").stdout == "NAME     TYPE     KEYS\nfabric   Opaque   tor\n"
    assert applied("get", "services", "-A").stdout == (
        "NAMESPACE   NAME   CLUSTER      EXTERNAL   LOAD-BALANCER\nshop        web    10.96.0.10   -          -\n"
    )


@pytest.mark.parametrize("kind", ["bgpconfigurations", "bgppeers", "bgpfilters"])
def test_what_is_printed_can_be_applied_and_changes_nothing(kind: str, applied: Run) -> None:
    printed = applied("get", kind, "-o", "yaml").stdout
    again = applied("apply", "-f", "-", stdin=printed)
    assert again.exit_code == 0
    assert all(line.endswith(" unchanged") for line in again.stdout.splitlines())


@pytest.mark.parametrize("command", [("get", "secrets", "-o", "yaml"), ("get", "secret", "fabric", "-o", "json")])
def test_a_password_is_not_shown(command: tuple[str, ...], applied: Run) -> None:
    printed = applied(*command).stdout
    assert "tor" in printed
    assert "hush" not in printed
    assert "aHVzaA" not in printed
    assert applied("apply", "-f", "-", stdin=printed).exit_code != 0


def test_a_difference_of_passwords_is_told_without_them(applied: Run) -> None:
    other = ALL.replace("hush", "shush")
    told = applied("apply", "-f", "-", "--diff", stdin=other)
    assert told.exit_code == 1
    assert told.stdout == "~ secret/fabric\n    data.tor: another value\n"


def test_what_others_go_by_is_not_deleted(applied: Run) -> None:
    for kind, name, why in (
        ("bgpfilter", "in", "BGPPeer tor goes by it"),
        ("secret", "fabric", "BGPPeer tor has its password there"),
    ):
        refused = applied("delete", kind, name, "--yes")
        assert refused.exit_code != 0
        assert why in refused.stderr
    assert applied("delete", "bgppeer", "tor", "--yes").exit_code == 0
    assert applied("delete", "bgpfilter", "in", "--yes").exit_code == 0


def test_people_say_what_is_theirs_of_a_node_and_the_rest_stays(run: Run, cluster: SqliteDatastore) -> None:
    def node() -> Node:
        found = cluster.list("Node").items[0].resource
        assert isinstance(found, Node)
        return found

    before = node()
    assert run("apply", "-f", "-", stdin=BGP % before.name).exit_code == 0
    assert node().spec.bgp is not None
    assert node().spec == before.spec.of_people(node().spec)
    labels = f"apiVersion: netloom.io/v1\nkind: Node\nmetadata: {{name: {before.name}, labels: {{rack: a}}}}\n"
    assert run("apply", "-f", "-", stdin=labels).exit_code == 0
    assert node().spec.bgp is not None
    assert run("apply", "-f", "-", stdin=BGP % before.name).stdout.endswith("configured\n")
    assert run("apply", "-f", "-", stdin=BGP % before.name).stdout.endswith("unchanged\n")
