"""The etcd engine against a real etcd: the contract, and random histories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import etcd
from tests.kernel.datastore.etcd_place import EtcdPlace
from tests.pure.datastore.contract import Contract
from tests.pure.datastore.model import StoreMachine
from tests.pure.datastore.places import LONG, Place


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[etcd.Etcd]:
    with etcd.inside(), etcd.etcd() as running:
        EtcdMachine.server = running
        yield running


class TestEtcd(Contract):
    @pytest.fixture
    def place(self, server: etcd.Etcd) -> Iterator[Place]:
        place = EtcdPlace(server.urls)
        yield place
        place.leave()


class EtcdMachine(StoreMachine):
    server: etcd.Etcd

    def make_place(self) -> Place:
        return EtcdPlace(self.server.urls)

    def teardown(self) -> None:
        assert isinstance(self.place, EtcdPlace)
        self.place.leave()


EtcdMachine.TestCase.settings = settings(
    max_examples=200 if LONG else 20, stateful_step_count=60 if LONG else 30, deadline=None
)
TestEtcdHistories = EtcdMachine.TestCase
