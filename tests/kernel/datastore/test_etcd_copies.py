"""A single machine's network moves to etcd, and a cluster from one etcd to another, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import etcd
from tests.kernel.datastore.etcd_place import EtcdPlace
from tests.pure.datastore import copies
from tests.pure.datastore.places import Place, SqlitePlace


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[etcd.Etcd]:
    with etcd.inside(), etcd.etcd() as running:
        yield running


@pytest.mark.parametrize("holds", copies.EVERY, ids=lambda check: check.__name__)
@pytest.mark.parametrize("engines", ["sqlite to etcd", "etcd to etcd", "etcd to sqlite"])
def test_a_copy(holds: Callable[[Place, Place], None], engines: str, server: etcd.Etcd, tmp_path: Path) -> None:
    places = [
        EtcdPlace(server.urls) if engine == "etcd" else SqlitePlace(str(tmp_path / f"{number}.db"))
        for number, engine in enumerate(engines.split(" to "))
    ]
    try:
        holds(*places)
    finally:
        for place in places:
            place.leave() if isinstance(place, EtcdPlace) else place.close()
