"""A server that takes our calls and answers with whatever it likes: each call ends, with a DatastoreError or with an answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netloom.datastore.etcd import messages
from netloom.datastore.etcd.store import EtcdDatastore
from netloom.datastore.etcd.wire import chunk, number
from netloom.errors import DatastoreError, Unavailable
from tests.pure.datastore.places import node

HEADER = number(1, 7) + number(3, 5)
IDENTITY = b'{"identity": "x", "schema": 1}'
GREETING = chunk(1, HEADER) + chunk(2, chunk(1, b"/netloom/identity") + number(2, 2) + number(3, 2) + chunk(5, IDENTITY))


class Server(grpc.GenericRpcHandler):
    """`answers`: to each method, but the first question, which it answers as it should."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.greeted = False

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        if details.method == messages.WATCH:
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: iter([self.answers[messages.WATCH]]))
        return grpc.unary_unary_rpc_method_handler(lambda _, __: self._answer(details.method))

    def _answer(self, method: str) -> bytes:
        if not self.greeted:
            self.greeted = True
            return GREETING
        return self.answers.get(method, GREETING)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Server, str]]:
    handler, running = Server(), grpc.server(ThreadPoolExecutor(4))
    running.add_generic_rpc_handlers((handler,))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield handler, f"http://127.0.0.1:{port}"
    running.stop(None)


garbage = st.binary(max_size=60) | st.builds(lambda head, rest: chunk(1, head) + rest, st.just(HEADER), st.binary(max_size=60))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(garbage)
def test_whatever_it_answers_each_call_ends(server: tuple[Server, str], answer: bytes) -> None:
    handler, url = server
    handler.greeted = False
    handler.answers = dict.fromkeys((messages.RANGE, messages.TXN, messages.WATCH), answer)
    with closing(EtcdDatastore(url)) as store:
        for call in (
            lambda: store.get("Node", "a"),
            lambda: store.list(),
            lambda: store.keys("Node"),
            lambda: store.create(node("a")),
            lambda: store.delete("Node", "a"),
            lambda: store.watch(1).next(0.2),
        ):
            with contextlib.suppress(DatastoreError):
                call()


def test_a_write_that_was_refused_for_no_reason_is_unavailable(server: tuple[Server, str]) -> None:
    handler, url = server
    handler.greeted = False
    ours = chunk(3, chunk(1, GREETING))
    handler.answers = {messages.TXN: chunk(1, HEADER) + chunk(3, chunk(1, chunk(1, HEADER))) + ours}
    with closing(EtcdDatastore(url)) as store, pytest.raises(Unavailable, match="nothing stood in the way"):
        store.create(node("a"))


def test_an_answer_from_another_cluster_is_another_store(server: tuple[Server, str]) -> None:
    handler, url = server
    handler.greeted = False
    handler.answers = {messages.RANGE: chunk(1, number(1, 8) + number(3, 6))}
    with closing(EtcdDatastore(url)) as store:
        for _ in range(2):
            with pytest.raises(Unavailable, match="another store"):
                store.list()
