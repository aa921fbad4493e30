"""What is held is named before anything goes by it, and is held again after a kill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netloom.agent.braking import Braking
from netloom.errors import NotFound
from netloom.model.snapshot import Snapshot
from tests.pure.calc.test_brake import OWN, cluster, led_to, numbered

ALL, FEW = cluster(range(40)), cluster(range(20, 40), revision=2)


class Bench:
    """A braking that may be killed at any time: what is remembered is what counted last."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 0.0
        self.start(Snapshot())

    def start(self, remembered: Snapshot) -> None:
        recalled = Snapshot.of(remembered.revision, remembered.resources(), complete=False)
        self.braking = Braking(str(self.folder), OWN, recalled, clock=lambda: self.now)

    def kill(self) -> None:
        self.start(self.braking.counts)

    def take(self, snapshot: Snapshot, *, jumped: bool = False) -> set[str]:
        """Which nodes something leads to."""
        self.braking.take(snapshot, jumped=jumped)
        return led_to(self.braking.counts)

    @property
    def files(self) -> list[str]:
        return os.listdir(self.folder)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.take(ALL)
    return made


def test_a_cluster_that_is_whole_needs_no_file(bench: Bench) -> None:
    assert bench.braking.counts is ALL
    assert bench.files == [] and bench.braking.problems == ()


def test_what_is_held_is_said_with_what_to_type(bench: Bench) -> None:
    assert bench.take(FEW) == numbered(range(40))
    [problem] = bench.braking.problems
    assert problem == (
        "nodes n0, n1, n10 and 17 more are not in the datastore any more: the ways there are held; "
        "where they are gone for good: netloom system brake release"
    )
    assert len(bench.braking.held) == 20


@pytest.mark.parametrize("jumped", [False, True])
@pytest.mark.parametrize("remembered", [ALL, cluster(range(30, 35)), Snapshot()], ids=["all", "an older state", "nothing"])
def test_an_agent_that_is_killed_holds_the_same_when_it_starts_again(bench: Bench, jumped: bool, remembered: Snapshot) -> None:
    """Whatever else it remembers: the cluster is written down every few seconds only."""
    last = cluster(range(1, 40), revision=2) if jumped else FEW
    assert bench.take(last, jumped=jumped) == numbered(range(40))
    for _ in range(3):
        bench.start(remembered)
        assert bench.take(Snapshot.of(3, last.resources())) == numbered(range(40))
        assert bench.braking.held


def test_an_agent_that_was_killed_before_it_wrote_anything_down_brakes_all_the_same(bench: Bench) -> None:
    bench.take(FEW)
    for name in bench.files:
        os.unlink(bench.folder / name)
    bench.start(ALL)
    assert bench.take(FEW) == numbered(range(40))


def test_a_file_that_cannot_be_read_stops_nobody(bench: Bench) -> None:
    bench.take(FEW)
    for content in (b"", b"{", b'{"nodes": 7}', b"\xff" * 100, b"[" * 100_000):
        (bench.folder / "brake.json").write_bytes(content)
        bench.start(ALL)
        assert bench.take(FEW) == numbered(range(40))


def test_when_all_are_back_the_file_goes(bench: Bench) -> None:
    bench.take(FEW)
    assert bench.files == ["brake.json"]
    again = cluster(range(40), revision=3)
    bench.take(again)
    assert bench.braking.counts is again and bench.files == []
    bench.kill()
    assert bench.take(FEW) == numbered(range(40)), "and the next time it is judged anew"


def test_what_a_person_released_is_gone_and_stays_gone(bench: Bench) -> None:
    bench.take(FEW)
    assert bench.braking.release(["n3"]) == ("n3",)
    assert led_to(bench.braking.counts) == numbered(range(40)) - {"n3"}
    bench.kill()
    assert bench.take(cluster(range(20, 40), revision=3)) == numbered(range(40)) - {"n3"}
    assert len(bench.braking.release([])) == 19
    assert led_to(bench.braking.counts) == numbered(range(20, 40)) and bench.files == []


def test_who_releases_what_is_not_held_is_told(bench: Bench) -> None:
    bench.take(FEW)
    with pytest.raises(NotFound, match="nothing is held of node 'n30'"):
        bench.braking.release(["n0", "n30"])
    assert "n0" in bench.braking.held


def test_a_jump_is_remembered_until_the_quarantine_is_over(bench: Bench) -> None:
    bench.take(cluster(range(40), revision=2), jumped=True)
    assert bench.braking.jumped and not bench.braking.held
    bench.kill()
    assert bench.braking.jumped
    bench.take(cluster(range(40), revision=3))
    bench.braking.look(quarantined=True)
    assert bench.braking.jumped
    bench.braking.look(quarantined=False)
    assert not bench.braking.jumped and bench.files == []


def test_time_alone_ends_what_a_node_that_came_back_does_not_claim(bench: Bench) -> None:
    bench.take(FEW)
    back = FEW.updated(3, [("Node", f"n{n}", ALL.nodes[f"n{n}"]) for n in range(20)])
    assert bench.take(back) == numbered(range(40))
    assert not bench.braking.look(quarantined=False)
    bench.now += 31.0
    assert bench.braking.look(quarantined=False)
    assert bench.braking.counts is back


def test_while_thousands_are_held_the_loop_has_time_for_other_things(bench: Bench) -> None:
    """Here a look at the clock takes a tenth of a second, and a step two."""
    ticking = iter(range(1000))
    bench.braking._clock = lambda: next(ticking) / 10
    bench.take(FEW)
    assert bench.braking.late is None
    grown = cluster(range(20, 41), revision=3)
    assert "n40" not in bench.take(grown) and bench.braking.late
    while (late := bench.braking.late) is not None and late > 0:
        continue
    assert bench.braking.look(quarantined=False) and bench.braking.late is None
    assert led_to(bench.braking.counts) == numbered(range(41))


def test_a_full_disk_holds_all_the_same(bench: Bench) -> None:
    os.mkdir(bench.folder / "brake.json.new")
    with pytest.raises(OSError, match="brake"):
        bench.take(FEW)
    assert led_to(bench.braking.counts) == numbered(range(40))


def test_what_is_only_remembered_counts_with_what_was_held(bench: Bench) -> None:
    bench.take(FEW)
    for remembered in (ALL, FEW, Snapshot()):
        bench.start(remembered)
        bench.take(Snapshot.of(1, FEW.resources(), complete=False))
        assert bench.braking.counts.nodes.keys() >= numbered(range(20))
