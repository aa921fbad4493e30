"""When a pool will run out: from a few looks, whatever the clock does."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from netloom.agent.growing import Growing, read
from netloom.ipam.growth import EVERY, Look, kept, known, look, outlook
from netloom.model.snapshot import Snapshot
from tests.pure.ipam.making import block, claim, pool

POOL = pool("p", "10.0.0.0/24", 28)
HOUR, DAY = 3600.0, 86400.0


def seen(*looks: tuple[float, int]) -> list[Look]:
    return [Look(at, {"p": claimed}) for at, claimed in looks]


def test_a_pool_runs_out_when_what_is_free_is_claimed_at_the_rate_of_before() -> None:
    found = outlook(POOL, Look(10 * HOUR, {"p": 64}), seen((0.0, 16), (9 * HOUR, 64)))
    assert found is not None
    assert (found.per_hour, found.over, found.seconds) == (4.8, 10 * HOUR, 40 * HOUR)


def test_what_is_given_back_again_is_no_growth() -> None:
    for claimed in (32, 16):
        found = outlook(POOL, Look(DAY, {"p": claimed}), seen((0.0, 32), (HOUR, 200)))
        assert found is not None and found.seconds is None


def test_a_full_pool_has_run_out() -> None:
    found = outlook(POOL, Look(DAY, {"p": 256}), seen((0.0, 0)))
    assert found is not None and found.seconds == 0


def test_nothing_is_said_before_there_is_something_to_compare_with() -> None:
    assert outlook(POOL, Look(HOUR, {"p": 16}), []) is None
    assert outlook(POOL, Look(HOUR, {"p": 16}), seen((HOUR - EVERY / 2, 0))) is None
    assert outlook(POOL, Look(HOUR, {"p": 16}), [Look(0.0, {"another": 5})]) is None


def test_who_runs_out_first_comes_first() -> None:
    pools = {name: pool(name, f"10.{i}.0.0/24", 28) for i, name in enumerate(("calm", "slow", "fast"))}
    before, now = Look(0.0, dict.fromkeys(pools, 16)), Look(HOUR, {"calm": 16, "slow": 32, "fast": 64})
    assert [one.pool for one in known(pools, now, [before])] == ["fast", "slow", "calm"]


def test_a_look_counts_what_all_nodes_have_claimed() -> None:
    shared = block("10.0.0.0/28", claim("10.0.0.0/29", "a"), claim("10.0.0.8/32", "b"))
    snapshot = Snapshot.of(1, [POOL, shared, block("10.0.0.16/28", claim("10.0.0.16/28", "c"))])
    assert look(5.0, snapshot) == Look(5.0, {"p": 25})


@given(st.lists(st.floats(0, 30 * DAY), max_size=200), st.floats(0, 30 * DAY))
def test_few_looks_are_kept_and_the_oldest_of_a_week_is_one(times: list[float], now: float) -> None:
    looks = [Look(at, {}) for at in times]
    found = kept(looks, now)
    assert len(found) < 100
    in_time = [at for at in times if now - 7 * DAY <= at <= now]
    assert bool(found) == bool(in_time)
    if in_time:
        assert (found[0].at, found[-1].at) == (min(in_time), max(in_time))
        assert [one.at for one in found] == sorted(one.at for one in found)


def test_looks_survive_a_restart_and_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    now = [1000.0]
    snapshot = Snapshot.of(1, [POOL])
    growing = Growing(str(tmp_path), lambda: now[0])
    for _ in range(3):
        write = growing.look(snapshot)
        assert write is not None
        write()
        assert growing.look(snapshot) is None
        now[0] += EVERY
        growing = Growing(str(tmp_path), lambda: now[0])
    assert [one.at for one in read(str(tmp_path / "growth.json"))] == [1000.0, 1000.0 + EVERY, 1000.0 + 2 * EVERY]
    (tmp_path / "growth.json").write_bytes(b'[{"at": "x"')
    assert read(str(tmp_path / "growth.json")) == ()


def test_a_clock_that_is_set_back_begins_anew(tmp_path: Path) -> None:
    now = [DAY]
    growing = Growing(str(tmp_path), lambda: now[0])
    assert growing.look(Snapshot.of(1, [POOL])) is not None
    now[0] = HOUR
    assert growing.look(Snapshot.of(1, [POOL])) is not None
