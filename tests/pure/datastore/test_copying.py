"""From one engine to another; etcd's part is in tests/kernel/datastore/test_etcd_copies.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netloom.datastore.copying import copy
from netloom.errors import ConfigError
from tests.pure.datastore import copies
from tests.pure.datastore.places import MemoryPlace, Place, SqlitePlace


@pytest.mark.parametrize("holds", copies.EVERY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("engines", ["memory to sqlite", "sqlite to sqlite", "sqlite to memory"])
def test_a_copy(holds: Callable[[Place, Place], None], engines: str, tmp_path: Path) -> None:
    source, target = (
        MemoryPlace() if engine == "memory" else SqlitePlace(str(tmp_path / f"{number}.db"))
        for number, engine in enumerate(engines.split(" to "))
    )
    try:
        holds(source, target)
    finally:
        source.close()
        target.close()


def test_a_store_is_not_copied_onto_itself() -> None:
    place = MemoryPlace()
    with pytest.raises(ConfigError, match="both are the same datastore"):
        copy(place.open(), place.open())


def test_half_a_copy_is_neither_a_source_nor_anothers_target() -> None:
    one, half, other = MemoryPlace(), MemoryPlace(), MemoryPlace()
    copies.fill(one.open())
    copies.fill(other.open())
    with pytest.raises(copies.CutShort):
        copy(one.open(), copies.Frail(half.open(), 2))  # type: ignore[arg-type]  # it is one but for its writes
    with pytest.raises(ConfigError, match="is itself a copy that is not whole"):
        copy(half.open(), MemoryPlace().open())
    with pytest.raises(ConfigError, match="is a copy of another datastore"):
        copy(other.open(), half.open())
