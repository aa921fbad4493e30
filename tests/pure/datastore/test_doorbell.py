from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from netloom.datastore import doorbell
from netloom.datastore.doorbell import Doorbell
from tests.pure.datastore.contract import SOON, in_background

LONGER_THAN_ANY_TEST = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "bell")


def sleeping(bell: Doorbell) -> Future[None]:
    word = bell.word()
    return in_background(lambda: bell.wait(word, LONGER_THAN_ANY_TEST))


def test_a_ring_wakes_everybody_who_sleeps(path: str) -> None:
    bells = [Doorbell(path) for _ in range(5)]
    asleep = [sleeping(bell) for bell in bells]
    Doorbell(path).ring()
    for sleeper in asleep:
        sleeper.result(SOON)


def test_a_ring_before_falling_asleep_is_not_missed(path: str) -> None:
    bell = Doorbell(path)
    word = bell.word()
    Doorbell(path).ring()
    in_background(lambda: bell.wait(word, LONGER_THAN_ANY_TEST)).result(SOON)


def test_nobody_rings_and_the_wait_ends_by_itself(path: str) -> None:
    bell = Doorbell(path)
    before = time.monotonic()
    bell.wait(bell.word(), 0.02)
    assert time.monotonic() - before >= 0.02


def test_close_wakes_sleepers_who_may_still_look_at_the_word(path: str) -> None:
    bell = Doorbell(path)
    asleep = sleeping(bell)
    bell.close()
    asleep.result(SOON)
    bell.word()
    bell.ring()
    bell.close()


def test_a_reader_and_a_writer_in_step_never_miss_each_other(path: str) -> None:
    """Ping-pong: each round hangs for an hour if one wake-up is lost."""
    here, there, turns = Doorbell(path), Doorbell(path), []

    def play(bell: Doorbell, parity: int) -> None:
        while len(turns) < 2000:
            word = bell.word()
            if len(turns) % 2 == parity:
                turns.append(parity)
                bell.ring()
            elif len(turns) < 2000:
                bell.wait(word, LONGER_THAN_ANY_TEST)

    players = [threading.Thread(target=play, args=(bell, i), daemon=True) for i, bell in enumerate((here, there))]
    for player in players:
        player.start()
    for player in players:
        player.join(SOON)
    assert turns == [0, 1] * 1000


def test_the_file_is_its_owners_alone_and_no_link_is_followed(path: str) -> None:
    Doorbell(path)
    assert os.stat(path).st_mode & 0o777 == 0o600
    os.symlink(path, path + "2")
    with pytest.raises(OSError, match="symbolic links"):
        Doorbell(path + "2")


def test_where_the_kernel_has_no_futex_for_us_a_ring_is_found_by_looking(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorbell, "_FUTEX", None)
    bell = Doorbell(path)
    word, before = bell.word(), time.monotonic()
    bell.ring()
    while bell.word() == word:
        bell.wait(word, LONGER_THAN_ANY_TEST)
    bell.wait(bell.word(), LONGER_THAN_ANY_TEST)
    assert time.monotonic() - before < 60
