from __future__ import annotations

from collections.abc import Iterator

import pytest

from netloom.datastore.memory import Memory, MemoryDatastore
from netloom.errors import Compacted
from tests.pure.datastore.contract import Contract, drain
from tests.pure.datastore.model import SETTINGS, StoreMachine
from tests.pure.datastore.places import MemoryPlace, Place, node


class TestMemory(Contract):
    @pytest.fixture
    def place(self) -> Iterator[Place]:
        place = MemoryPlace()
        yield place
        place.close()


class MemoryMachine(StoreMachine):
    def make_place(self) -> Place:
        return MemoryPlace()


MemoryMachine.TestCase.settings = SETTINGS
TestMemoryHistories = MemoryMachine.TestCase


def test_the_log_forgets_what_is_older_than_it_keeps() -> None:
    store = MemoryDatastore(Memory(keep=3))
    revisions = [store.create(node(f"n{i}")) for i in range(5)]
    with pytest.raises(Compacted):
        store.watch(revisions[1])
    assert [e.revision for e in drain(store.watch(revisions[2]), revisions[-1])] == revisions[3:]
