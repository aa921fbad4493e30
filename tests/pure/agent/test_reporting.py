from __future__ import annotations

import dataclasses
import ipaddress
from datetime import UTC, datetime

from netloom.agent import engines
from netloom.agent.addressing import Choice
from netloom.agent.probing import Figures
from netloom.agent.reconciling import Pass
from netloom.agent.reporting import Report, document
from netloom.agent.state import RouteFor, decode, encode
from netloom.agent.watching import Connection
from netloom.calc import desired
from netloom.errors import DataplaneError
from netloom.ipam.claims import Claims, Held
from netloom.model.addresses import Mac
from netloom.model.attachments import State
from netloom.model.desired import Carrier, Engine, Tunnel
from netloom.model.host import Host, Uplink
from netloom.model.resources import Encapsulation, Metadata, Node, NodeSpec
from netloom.model.snapshot import Snapshot
from netloom.reconcile import Outcome
from netloom.tunnel.forwarder import messages
from tests.pure.ipam.making import attachment, block, claim, pool, prefix

HERE, THERE = prefix("10.0.0.0/26"), prefix("10.0.1.0/26")
WEB = attachment("web", 1, "10.0.0.2/32", state=State.READY)
UNDERLAY = ipaddress.ip_interface("192.0.2.1/24")
SNAPSHOT = Snapshot.of(
    9,
    [
        pool("p", "10.0.0.0/16", encapsulation=Encapsulation.NONE),
        Node(metadata=Metadata(name="b"), spec=NodeSpec(id="b-1", addresses=(ipaddress.ip_interface("192.0.2.2/24"),))),
        block("10.0.1.0/26", claim("10.0.1.0/26", "b")),
    ],
)
HOST = Host("a", "a-1", addresses=(UNDERLAY,), uplinks={"eth0": Uplink("eth0", 1500, (UNDERLAY,))}, blocks=(HERE,), mtu=1500)
NUMBER = int(HERE.network_address)
REPORT = Report(
    node="a",
    started=1_700_000_000.0,
    ready=True,
    in_sync_since=1_700_000_001.5,
    pass_due=True,
    mtu=1450,
    target="sqlite:/x",
    snapshot=SNAPSHOT,
    connection=Connection(connected=True, since=1_700_000_000.0, identity="s"),
    last=Pass(9, 1_700_000_002.0, 1.5, {"routes": Outcome(2, 1), "links": Outcome()}),
    passes=3,
    problems=("one", "two"),
    desired=desired(SNAPSHOT, [WEB], HOST),
    claims=Claims(node="a", node_id="a-1", held=(Held(cidr=HERE, slot=HERE),)),
    used={4: (NUMBER + 2,), 6: ()},
    cooling={4: (NUMBER + 3, NUMBER + 4, NUMBER + 99), 6: ()},
    attachments=(WEB,),
)


def test_the_document_can_be_sent() -> None:
    found = document(REPORT)
    assert decode(encode(found)) == found


def test_it_says_who_and_since_when_in_utc() -> None:
    found = document(REPORT)
    assert (found.node, found.ready, found.mtu) == ("a", True, 1450)
    assert found.started == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert found.in_sync_since is not None
    assert found.in_sync_since > found.started
    assert found.pass_due
    assert [p.message for p in found.problems] == ["one", "two"]


def test_a_node_that_is_not_in_sync_says_so() -> None:
    assert document(dataclasses.replace(REPORT, in_sync_since=None)).in_sync_since is None


def test_the_datastore_is_as_the_watcher_sees_it() -> None:
    away = Connection(connected=False, since=1_700_000_000.0, error="cannot be opened", identity="s")
    found = document(dataclasses.replace(REPORT, connection=away)).datastore
    assert (found.connected, found.error, found.revision, found.identity) == (False, "cannot be opened", 9, "s")
    assert document(REPORT).datastore.error is None


def test_a_blocks_addresses_add_up() -> None:
    [found] = document(REPORT).blocks
    assert (found.cidr, found.pool) == (HERE, "p")
    assert (found.used, found.cooling, found.kept) == (1, 2, 3)
    assert found.used + found.cooling + found.kept + found.free == 64


def test_a_block_of_a_pool_that_is_gone_is_shown_without_one() -> None:
    [found] = document(dataclasses.replace(REPORT, snapshot=Snapshot())).blocks
    assert found.pool == ""


def test_every_route_says_what_it_is_for() -> None:
    found = {str(r.destination): (r.kind, r.owner, r.device) for r in document(REPORT).routes}
    assert found == {
        "10.0.0.2/32": (RouteFor.POD, "default/web", WEB.host_interface),
        "10.0.1.0/26": (RouteFor.NODE, "b", "eth0"),
        "10.0.0.0/26": (RouteFor.BLACKHOLE, "", ""),
    }


def test_every_route_says_which_pool_and_why() -> None:
    found = {
        str(r.destination): (r.pool, r.encapsulation, r.why) for r in document(dataclasses.replace(REPORT, host=HOST)).routes
    }
    assert found == {
        "10.0.0.2/32": ("p", "", "a pod of this node"),
        "10.0.1.0/26": ("p", "None", "neighbour on eth0"),
        "10.0.0.0/26": ("p", "", "addresses of this node that no pod has"),
    }


def test_the_nodes_address_is_told_with_the_rule_that_chose_it() -> None:
    choice = Choice((UNDERLAY,), "on eth0, the interface of the default route", ("10.0.0.1 of eth1",))
    found = document(dataclasses.replace(REPORT, choice=choice))
    assert (found.addresses, found.addresses_because, found.passed_over) == ((UNDERLAY,), choice.reason, choice.passed_over)


def test_who_carries_tunnels_is_told_and_why() -> None:
    choices = engines.choose("forwarder", {engine: lambda: None for engine in Engine})
    link = Tunnel(Mac("66:00:00:00:00:01"), 1472, Carrier.UDP, Engine.FORWARDER, UNDERLAY.ip, 8285)
    desired = dataclasses.replace(REPORT.desired, links={"loom.udp": link})
    process = messages.State(
        pid=7,
        version="1",
        device="loom.udp",
        local="",
        port=8285,
        bulk="numpy",
        number=1,
        tunnels=1,
        senders=1,
        lost={"liars": 2},
    )
    ipip, udp = document(dataclasses.replace(REPORT, desired=desired, engines=choices, forwarders=(process,))).engines
    assert (ipip.carrier, ipip.engine, ipip.because, ipip.used) == ("IPIP", "ebpf", "this host allows it", False)
    assert (udp.carrier, udp.engine, udp.because, udp.used) == ("UDP", "forwarder", "as tunnelEngine says", True)
    assert (udp.process, udp.bulk, udp.lost) == (7, "numpy", {"liars": 2})


def test_who_answers_probes_is_told() -> None:
    found = document(dataclasses.replace(REPORT, probed=Figures(3, 2, ("c",)))).probes
    assert (found.asked, found.answered, found.silent) == (3, 2, ("c",))


def test_attachments_are_those_of_the_journal() -> None:
    [found] = document(REPORT).attachments
    assert (found.pod, found.container_id, found.state) == ("web", "web", State.READY)
    assert [str(a) for a in found.addresses] == ["10.0.0.2"]


def test_the_last_pass_is_told_by_table_with_its_refusals() -> None:
    failure = DataplaneError("routes", "10.0.1.0/26 7", "Network is unreachable", errno=101)
    refused = Pass(9, 1_700_000_002.0, 1.5, {"routes": Outcome(1, 0, (failure,))})
    found = document(dataclasses.replace(REPORT, last=refused)).last_pass
    assert found is not None
    assert (found.number, found.revision, found.tables) == (3, 9, {"routes": "+1-0!1"})
    assert found.failures == ("routes 10.0.1.0/26 7: Network is unreachable",)
    assert document(dataclasses.replace(REPORT, last=None)).last_pass is None


def test_a_pass_is_one_line_that_names_what_it_changed() -> None:
    done = Pass(9, 0.0, 1.25, {"links": Outcome(), "routes": Outcome(2, 1)}, {"routes": "+10.0.1.0/26 7, -10.0.2.0/26 7"})
    assert str(done) == "pass revision=9 ms=1.2 routes=+2-1 [+10.0.1.0/26 7, -10.0.2.0/26 7]"
    assert str(Pass(9, 0.0, 1.25, {"links": Outcome()})) == "pass revision=9 ms=1.2 same"
