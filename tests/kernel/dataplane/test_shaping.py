"""The shaping driver: what tc shows of it, what others change is put right, and what is others' is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netloom.dataplane.netlink import Events, Netlink, NetlinkError, new_ifb, new_veth, set_link
from netloom.dataplane.netlink.qdiscs import new_clsact, new_redirect, put_bucket
from netloom.dataplane.shaping import Shapings, refusal
from netloom.model.addresses import Mac
from netloom.model.desired import Limit, Shaping
from netloom.reconcile import Outcome, reconcile
from tests.kernel.iproute import run, shown

HOST, POD = Mac("ee:ee:ee:ee:ee:ee"), Mac("0a:58:0a:f4:00:02")
INTO, OUT = Limit(1_250_000, 64_000, 100_000), Limit(2**33, 2**32 - 1, 2**31)
WANTED = {"loom0": Shaping(INTO, "loomq0"), "loomq0": Shaping(OUT), "loom1": Shaping(INTO), "loom2": Shaping(redirect="loomq2")}


@pytest.fixture
def shapings(kernel: Netlink, pod: int) -> Shapings:
    """Three links of pods as ADD makes them, and two ifbs."""
    for i in range(3):
        kernel.transact(new_veth(f"loom{i}", f"eth{i}", pod, mac=HOST, peer_mac=POD, mtu=1500, index=100 + i, up=True))
    for i in (0, 2):
        kernel.transact(new_ifb(f"loomq{i}", mac=HOST, mtu=1500, index=200 + i), set_link(200 + i, up=True))
    return Shapings(kernel)


def made() -> list[dict[str, Any]]:
    return [one for one in shown("tc qdisc show") if one["handle"] != "0:"]


def led(name: str) -> list[tuple[int, str]]:
    """Preference and target of each filter for what arrives."""
    rules = shown(f"tc filter show dev {name} ingress")
    actions = [(r["pref"], a) for r in rules for a in r.get("options", {}).get("actions", ())]
    return [(pref, a["to_dev"]) for pref, a in actions if (a["mirred_action"], a["direction"]) == ("redirect", "egress")]


def test_tc_shows_what_is_wanted_and_the_second_pass_writes_nothing(shapings: Shapings) -> None:
    assert reconcile(shapings, WANTED) == Outcome(put=4)
    roots = {one["dev"]: one for one in made() if one.get("root")}
    assert {name: (one["kind"], one["handle"]) for name, one in roots.items()} == dict.fromkeys(
        ("loom0", "loomq0", "loom1"), ("tbf", "4e4c:")
    )
    assert (roots["loom0"]["options"]["rate"], roots["loom0"]["options"]["burst"]) == (1_250_000, 64_000)
    assert (roots["loomq0"]["options"]["rate"], roots["loomq0"]["options"]["limit"]) == (2**33, 2**31)
    assert {one["dev"] for one in made() if one["kind"] == "clsact"} == {"loom0", "loom2"}
    assert led("loom0") == [(79, "loomq0")] and led("loom2") == [(79, "loomq2")] and led("loom1") == []
    events = Events()
    assert not shapings.changes(WANTED)
    assert "shaping" not in events.read().tables
    events.close()


@pytest.mark.parametrize(
    "mutation",
    [
        "tc qdisc del dev loom0 root",
        "tc qdisc del dev loom0 clsact",
        "tc qdisc del dev loomq0 root",
        "tc qdisc change dev loom0 root handle 4e4c: tbf rate 20mbit burst 64000 limit 100000",
        "tc qdisc change dev loom0 root handle 4e4c: tbf rate 1250000bps burst 65000 limit 100000",
        "tc qdisc change dev loom0 root handle 4e4c: tbf rate 1250000bps burst 64000 limit 100001",
        "tc qdisc change dev loom0 root handle 4e4c: tbf rate 1250000bps burst 64000 limit 100000 peakrate 30mbit mtu 1600",
        "tc qdisc replace dev loom0 root handle 1: tbf rate 1250000bps burst 64000 limit 100000",
        "tc qdisc replace dev loom0 root handle 1: htb",
        "tc filter del dev loom0 ingress",
        "tc filter del dev loom0 ingress pref 79",
        "tc filter add dev loom0 ingress pref 79 protocol all u32 match u32 0 0 action mirred egress redirect dev loomq2",
        (
            "tc filter replace dev loom0 ingress pref 79 protocol all handle 800::800 u32 match u32 0 0 "
            "action mirred egress mirror dev loomq0"
        ),
        "ip link del loomq0",
    ],
)
def test_what_somebody_changed_is_put_right_once(shapings: Shapings, kernel: Netlink, mutation: str) -> None:
    reconcile(shapings, WANTED)
    before = [(one["dev"], one["kind"], one["handle"], one["options"]) for one in made()], led("loom0")
    events = Events(own={kernel.port})
    run(mutation)
    assert events.read().tables.keys() & {"shaping", "links"}
    if mutation.startswith("ip"):  # the links driver's
        kernel.transact(new_ifb("loomq0", mac=HOST, mtu=1500, index=300), set_link(300, up=True))
    assert shapings.changes(WANTED).put
    outcome = reconcile(shapings, WANTED)
    assert not outcome.failures and outcome.put
    assert "shaping" not in events.read().tables  # what we write is no news
    after = [(one["dev"], one["kind"], one["handle"], one["options"]) for one in made()], led("loom0")
    assert (sorted(map(str, after[0])), after[1]) == (sorted(map(str, before[0])), before[1])
    assert not shapings.changes(WANTED)
    events.close()


def test_others_stand_where_nothing_of_ours_is_wanted(shapings: Shapings) -> None:
    """As the plugin `bandwidth` does it behind us."""
    run("tc qdisc add dev loom1 root handle 1: tbf rate 1mbit burst 10kb limit 10kb")
    run("tc qdisc add dev loom1 ingress")
    run("tc filter add dev loom1 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev loomq2")
    run("tc qdisc add dev up0 root handle 4e4d: tbf rate 1mbit burst 10kb limit 10kb")
    before = made()
    assert not shapings.changes({})
    assert reconcile(shapings, {"loom0": Shaping(INTO)}) == Outcome(put=1)
    assert [one for one in made() if one["dev"] != "loom0"] == before


def test_a_filter_of_others_stays_beside_ours(shapings: Shapings) -> None:
    reconcile(shapings, WANTED)
    run(
        "tc filter add dev loom0 ingress pref 5 protocol ip u32 match ip dst 192.0.2.1/32 action mirred egress redirect dev up0"
    )
    assert not shapings.changes(WANTED)
    run("tc filter del dev loom0 ingress pref 79")
    reconcile(shapings, WANTED)
    assert led("loom0") == [(5, "up0"), (79, "loomq0")]


def test_what_is_nobodys_is_taken_away(shapings: Shapings) -> None:
    reconcile(shapings, WANTED)
    changes = shapings.changes({"loom1": WANTED["loom1"]})
    assert changes.delete == {"loom0", "loomq0", "loom2"} and not changes.put
    assert shapings.apply(changes) == Outcome(deleted=3)
    assert [(one["dev"], one["kind"]) for one in made() if one.get("root")] == [("loom1", "tbf")]
    assert led("loom0") == led("loom2") == []
    assert not shapings.changes({"loom1": WANTED["loom1"]})


def test_an_interface_that_is_not_there_fails_alone(shapings: Shapings) -> None:
    outcome = reconcile(shapings, {"loom9": Shaping(INTO), "loom0": Shaping(INTO, "loomq9"), "loom1": Shaping(INTO)})
    assert outcome.put == 1
    assert sorted(map(str, outcome.failures)) == [
        "shaping loom0: needs interface loomq9, which does not exist",
        "shaping loom9: needs interface loom9, which does not exist",
    ]


def test_a_limit_is_changed_in_place(shapings: Shapings) -> None:
    reconcile(shapings, WANTED)
    run(
        "tc filter add dev loom0 ingress pref 5 protocol ip u32 match ip dst 192.0.2.1/32 action mirred egress redirect dev up0"
    )
    slower = {**WANTED, "loom0": replace(WANTED["loom0"], limit=Limit(125_000, 10_000, 20_000))}
    assert reconcile(shapings, slower) == Outcome(put=1)
    assert len(led("loom0")) == 2
    [root] = [one for one in made() if one["dev"] == "loom0" and one.get("root")]
    assert root["options"]["rate"] == 125_000


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (new_ifb("loomq9", mac=HOST, mtu=1500), b"ifb\0", "Operation not supported: Unknown device type"),
        (put_bucket(100, 1000, 2000, 3000), b"tbf\0", "No such file or directory: Specified qdisc kind is unknown"),
        (new_redirect(100, 200), b"u32\0", "No such file or directory: TC classifier not found"),
        (new_redirect(100, 200), b"mirred\0", "No such file or directory: Failed to load TC action module"),
    ],
    ids=["ifb", "tbf", "u32", "mirred"],
)
def test_a_kernel_that_lacks_a_part_says_which_and_what_limits_need(
    shapings: Shapings, kernel: Netlink, request_: bytes, kind: bytes, said: str
) -> None:
    """A kind that no kernel has stands for one that this kernel lacks: the answers are the same."""
    kernel.transact(new_clsact(100))
    with pytest.raises(NetlinkError) as refused:
        kernel.transact(request_.replace(kind, b"x" + kind[1:]))
    assert str(refusal("loom0", refused.value)) == (
        f"shaping loom0: {said}; limits need the kernel's ifb, sch_tbf, sch_ingress, cls_u32 and act_mirred"
    )


def test_another_refusal_is_said_as_it_is(kernel: Netlink) -> None:
    with pytest.raises(NetlinkError) as refused:
        kernel.transact(put_bucket(999, 1000, 2000, 3000))
    assert str(refusal("loom0", refused.value)) == "shaping loom0: No such device"
