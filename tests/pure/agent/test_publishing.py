from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from netloom.agent.publishing import Publisher, endpoint
from netloom.datastore import Datastore
from netloom.datastore.memory import MemoryDatastore
from netloom.errors import DatastoreError, NotFound, Unavailable
from netloom.model.attachments import Bandwidth
from netloom.model.resources import AnyResource, Endpoint, EndpointBandwidth, decode, encode
from tests.pure.datastore.places import LONG, MemoryPlace
from tests.pure.ipam.making import attachment

SOON = 30.0


def pod(name: str, number: int = 2, node: str = "a") -> Endpoint:
    return endpoint(attachment(name, 1, f"10.0.0.{number}/32"), node)


def table(*endpoints: Endpoint) -> dict[str, Endpoint]:
    return {e.key: e for e in endpoints}


def published(store: Datastore) -> dict[str, AnyResource]:
    return {s.resource.key: s.resource for s in store.list("Endpoint").items}


class Told:
    """What the publisher could not do, as it said last."""

    def __init__(self) -> None:
        self.failures: list[Sequence[str]] = []

    def __call__(self, failures: Sequence[str]) -> None:
        self.failures.append(failures)


@contextmanager
def publishing(store: Datastore, told: Told | None = None) -> Iterator[Publisher]:
    publisher = Publisher(store, "a", told or Told())
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


def eventually(store: Datastore, wanted: dict[str, Endpoint]) -> None:
    deadline = time.monotonic() + SOON
    while published(store) != wanted:
        assert time.monotonic() < deadline, published(store)
        time.sleep(0.002)


def test_an_attachment_is_published_as_the_cluster_sees_it() -> None:
    found = pod("web")
    assert found.spec.node == "a"
    assert (found.spec.container_id, found.spec.interface, found.spec.pod) == ("web", "eth0", "web")
    assert [str(a) for a in found.spec.addresses] == ["10.0.0.2"]
    assert found.metadata.name == found.spec.host_interface
    assert msgspec.json.decode(msgspec.json.encode(found, enc_hook=str))["spec"]["netns"] == "4:4026532001"


def test_what_is_wanted_is_put_and_what_is_not_is_taken_away() -> None:
    store = MemoryDatastore()
    with publishing(store) as publisher:
        publisher.want(table(pod("web"), pod("db", 3)))
        eventually(store, table(pod("web"), pod("db", 3)))
        publisher.want(table(pod("db", 4)))
        eventually(store, table(pod("db", 4)))
        publisher.want({})
        eventually(store, {})


def test_as_long_as_nobody_has_said_what_is_wanted_nothing_is_taken_away() -> None:
    store = MemoryDatastore()
    store.create(pod("web"))
    with publishing(store) as publisher:
        publisher.forget()
        time.sleep(0.05)
        assert published(store) == table(pod("web"))
        publisher.want({})
        eventually(store, {})


def test_what_is_there_already_is_not_written_again() -> None:
    store = MemoryDatastore()
    store.create(pod("web"))
    with publishing(store) as publisher:
        publisher.want(table(pod("web"), pod("db", 3)))
        eventually(store, table(pod("web"), pod("db", 3)))
    assert store.list().revision == 2


def test_endpoints_of_other_nodes_are_theirs() -> None:
    store = MemoryDatastore()
    store.create(pod("theirs", 9, node="b"))
    with publishing(store) as publisher:
        publisher.want(table(pod("web")))
        eventually(store, table(pod("theirs", 9, node="b"), pod("web")))


def test_another_writer_of_the_same_endpoint_loses() -> None:
    store, told = MemoryDatastore(), Told()
    with publishing(store, told) as publisher:
        publisher.want(table(pod("web")))
        eventually(store, table(pod("web")))
        [present] = store.list("Endpoint").items
        store.update(pod("web", 77), present.revision)
        publisher.forget()
        eventually(store, table(pod("web")))
        store.delete("Endpoint", pod("web").key)
        publisher.forget()
        eventually(store, table(pod("web")))
    assert not any(told.failures)


def test_many_writers_at_once_end_with_what_the_node_wants() -> None:
    store, end = MemoryDatastore(), threading.Event()

    def meddle() -> None:
        number = 10
        while not end.is_set():
            number = 10 + (number + 1) % 90
            try:
                found = store.get("Endpoint", pod("web").key)
                if found is None:
                    store.create(pod("web", number))
                elif number % 3:
                    store.update(pod("web", number), found.revision)
                else:
                    store.delete("Endpoint", pod("web").key, found.revision)
            except DatastoreError:
                continue
            time.sleep(0.001)

    meddlers = [threading.Thread(target=meddle) for _ in range(2)]
    with publishing(store) as publisher:
        for meddler in meddlers:
            meddler.start()
        for number in range(2, 8):
            publisher.want(table(pod("web", number), pod(f"pod-{number}", number + 100)))
            time.sleep(0.01)
        end.set()
        for meddler in meddlers:
            meddler.join()
        publisher.forget()
        eventually(store, table(pod("web", 7), pod("pod-7", 107)))


def test_a_record_of_ours_that_cannot_be_read_is_made_anew() -> None:
    place, told = MemoryPlace(), Told()
    place.scribble("Endpoint", pod("web").key, b"{")
    store = place.open()
    with publishing(store, told) as publisher:
        publisher.want(table(pod("web"), pod("db", 3)))
        eventually(store, table(pod("web"), pod("db", 3)))
    assert not any(told.failures)


class Refusing(MemoryDatastore):
    """Takes nothing of one name.  `away`: nor anything else."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.away = name, False

    def create(self, resource: AnyResource) -> int:
        if self.away:
            raise Unavailable("away")
        if self.name in resource.key:
            raise DatastoreError("is too large")
        return super().create(resource)

    def delete(self, kind: str, key: str, revision: int | None = None) -> int:
        if self.name in key:
            raise NotFound("nothing")
        return super().delete(kind, key, revision)


def test_an_endpoint_that_is_refused_does_not_stop_the_others_and_is_told() -> None:
    refused = pod("big", 4)
    store, told = Refusing(refused.metadata.name), Told()
    with publishing(store, told) as publisher:
        publisher.want(table(pod("web"), refused, pod("db", 3)))
        eventually(store, table(pod("web"), pod("db", 3)))
        deadline = time.monotonic() + SOON
        while not told.failures:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        [message] = told.failures[-1]
        assert refused.key in message
        store.name = "none"
        eventually(store, table(pod("web"), refused, pod("db", 3)))
    assert told.failures[-1] == []


def test_a_store_that_is_away_is_written_when_it_is_back() -> None:
    store, told = Refusing("none"), Told()
    store.away = True
    with publishing(store, told) as publisher:
        publisher.want(table(pod("web")))
        time.sleep(0.05)
        store.away = False
        eventually(store, table(pod("web")))
    assert not any(told.failures), "whoever watches the datastore tells"


def test_a_fault_of_our_own_is_told_and_does_not_end_the_thread() -> None:
    store, told = MemoryDatastore(), Told()
    with publishing(store, told) as publisher:
        publisher.want({"shop/web": 7})  # type: ignore[dict-item]  # a fault of our own, on purpose
        deadline = time.monotonic() + SOON
        while not told.failures:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        assert "a fault of our own" in told.failures[-1][0]
        publisher.want(table(pod("web")))
        eventually(store, table(pod("web")))


def test_an_endpoint_says_what_was_asked_for() -> None:
    asked = Bandwidth(ingress_rate=10_000_000, ingress_burst=800_000, egress_rate=5_000_000)
    published = endpoint(msgspec.structs.replace(attachment("web", 1, "10.0.0.2/32"), bandwidth=asked), "a")
    assert decode(encode(published)) == published
    assert published.spec.bandwidth == EndpointBandwidth(ingress_rate=10_000_000, ingress_burst=800_000, egress_rate=5_000_000)
    assert endpoint(attachment("web", 1, "10.0.0.2/32"), "a").spec.bandwidth is None


wants = st.dictionaries(st.sampled_from(["web", "db", "job"]), st.integers(2, 5), max_size=3)


@settings(max_examples=300 if LONG else 60, deadline=None)
@given(st.lists(wants, min_size=1, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_whatever_was_wanted_before_the_last_wish_stands(history: list[dict[str, int]], forgotten: list[bool]) -> None:
    store = MemoryDatastore()
    with publishing(store) as publisher:
        for wish, forget in zip(history, forgotten, strict=False):
            publisher.want(table(*(pod(name, number) for name, number in wish.items())))
            if forget:
                publisher.forget()
        eventually(store, table(*(pod(name, number) for name, number in history[-1].items())))
