"""Commands run against a real datastore file and a real server on the agent's socket, both in a folder of the test's own."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netloom.agent.state import AgentState, encode, encode_routes
from netloom.cli.root import netloom
from netloom.datastore.sqlite import SqliteDatastore
from netloom.model.resources import AnyResource
from tests.pure.cli.samples import CLUSTER, KERNEL, STATE

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Calls netloom with these arguments; `result.exit_code`, `.stdout`, `.stderr`."""
    environment = {
        "NETLOOM_DATASTORE": f"sqlite:{tmp_path}/store.db",
        "NETLOOM_RUN_DIR": str(tmp_path),
        "NETLOOM_STATE_DIR": str(tmp_path),
        "NETLOOM_NODE_NAME": "a",
    }

    def call(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner(env=environment).invoke(netloom, list(arguments), input=stdin)

    return call


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteDatastore]:
    """The datastore of `run`, empty."""
    datastore = SqliteDatastore(f"{tmp_path}/store.db")
    yield datastore
    datastore.close()


@pytest.fixture
def cluster(store: SqliteDatastore) -> SqliteDatastore:
    """The datastore of `run`, with the sample cluster."""
    fill(store, CLUSTER)
    return store


def fill(store: SqliteDatastore, resources: tuple[AnyResource, ...]) -> None:
    for resource in resources:
        store.create(resource)


@contextmanager
def answering(
    path: Path, body: bytes, status: int = 200, routes: bytes | None = None, others: Mapping[str, bytes] | None = None
) -> Iterator[None]:
    """A server on a unix socket that gives every GET of the state this answer, and of the kernel's routes that one, if any; `others`:
    further pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = {"/v1/state": body, "/v1/routes": routes, **(others or {})}.get(self.path)
            self.send_response(404 if answer is None else status)
            self.send_header("Content-Length", str(len(answer or b"")))
            self.end_headers()
            self.wfile.write(answer or b"")

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentState]:
    """An agent that answers with the sample state."""
    with answering(tmp_path / "netloom.sock", encode(STATE), routes=encode_routes(KERNEL)):
        yield STATE
