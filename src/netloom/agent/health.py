"""Health: what others may ask over HTTP, and nothing they may change.

    health_address      /livez  /readyz  /metrics       for probes and Prometheus, on localhost
    RUN_DIR/netloom.sock  /v1/state                     the whole state as JSON, for the command line and the page
                          /v1/routes                    the kernel's routes, everybody's
                          /v1/bgp…                      BIRD's sessions, file and routes (bgp_state)

Threads of the standard library's server, a few at a time, each connection with a deadline: a slow asker costs itself, and a
crowd is turned away before it costs the agent descriptors or processor time.  What the pages need of the agent they get by
calls that are safe from any thread.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from netloom.agent import kernel_routes
from netloom.agent.state import ROUTES_PATH, STATE_PATH
from netloom.errors import ConfigError, Unavailable
from netloom.model.showing import shown

log = logging.getLogger(__name__)

Page = Callable[[], tuple[int, str, bytes]]
"""→ status, content type, body."""

Queried = Callable[[str], bytes]
"""The query, as it was sent → a document in JSON.  Raises ValueError for one that cannot be answered, Unavailable."""

_MOST = 8  # connections of one server at a time
_SECONDS = 10.0  # of one connection, whatever it does
_LOOP_LIMIT = 90.0  # seconds without a turn of the agent's loop: it hangs
_TEXT = "text/plain"


class Health:
    """`unready`: why the node cannot take pods, or None; `state`, `routes`: the documents; `metrics`: in Prometheus' text form.
    `queried`: further documents of the socket, by path."""

    def __init__(
        self,
        unready: Callable[[], str | None],
        state: Callable[[], bytes],
        metrics: Callable[[], bytes],
        routes: Callable[[], bytes] = kernel_routes.page,
        queried: Mapping[str, Queried] | None = None,
    ) -> None:
        self._unready = unready
        self._turned = time.monotonic()
        self._servers: list[socketserver.BaseServer] = []
        self._queried = dict(queried or {})
        self._pages: dict[str, Page] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": lambda: (200, f"{_TEXT}; version=0.0.4; charset=utf-8", metrics()),
            STATE_PATH: lambda: (200, "application/json", state()),
            ROUTES_PATH: lambda: (200, "application/json", routes()),
        }

    def turn(self) -> None:
        """Called by the loop, every few seconds."""
        self._turned = time.monotonic()

    def serve_address(self, address: str) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise ConfigError(f"{shown(address)} is not ADDRESS:PORT", path="healthAddress")
        host = host.strip("[]")
        server = _TcpV6Server if ":" in host else _TcpServer
        try:
            self._start(server((host, int(port)), _handler(self._pages, ("/livez", "/readyz", "/metrics"))))
        except (OSError, OverflowError) as e:
            raise ConfigError(f"cannot listen on {address}: {e}", path="healthAddress") from e

    def serve_socket(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o117)  # root, and root's group: it is read-only
        try:
            self._start(_UnixServer(path, _handler(self._pages, (STATE_PATH, ROUTES_PATH, "/livez", "/readyz"), self._queried)))
        except OSError as e:
            raise ConfigError(f"cannot listen on {path}: {e}", path="runDir") from e
        finally:
            os.umask(mask)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _start(self, server: socketserver.BaseServer) -> None:
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="health", daemon=True).start()

    def _live(self) -> tuple[int, str, bytes]:
        silent = time.monotonic() - self._turned
        if silent > _LOOP_LIMIT:
            return 503, _TEXT, f"the loop has not turned for {silent:.0f} s\n".encode()
        return 200, _TEXT, b"ok\n"

    def _ready(self) -> tuple[int, str, bytes]:
        reason = self._unready()
        return (200, _TEXT, b"ok\n") if reason is None else (503, _TEXT, f"{reason}\n".encode())


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Not http.server's own: that one asks the name service who it is."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32
    allow_reuse_address = True

    def __init__(self, address: Any, handler: type[BaseHTTPRequestHandler]) -> None:  # Any: each family has its own
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # Any: as in the base class
        if len(self._deadlines) >= _MOST:
            self.shutdown_request(request)
            return
        self._deadlines[request] = time.monotonic() + _SECONDS
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Several times a second.  Who waits for such a connection finds it closed."""
        now = time.monotonic()
        for request, deadline in self._deadlines.copy().items():
            if now > deadline:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An asker that has gone, or that took too long."""
        log.debug("a request was not answered: %s", sys.exception())


class _TcpServer(_Server):
    pass


class _TcpV6Server(_Server):
    address_family = socket.AF_INET6


class _UnixServer(_Server):
    address_family = socket.AF_UNIX
    allow_reuse_address = False


class _Handler(BaseHTTPRequestHandler):
    server_version = "netloom"
    sys_version = ""
    pages: ClassVar[dict[str, Page]] = {}
    queried: ClassVar[dict[str, Queried]] = {}

    def do_GET(self) -> None:
        status, kind, body = self._page()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self) -> tuple[int, str, bytes]:
        path, _, query = self.path.partition("?")
        page, queried = self.pages.get(path), self.queried.get(path)
        try:
            if queried is not None:
                return 200, "application/json", queried(query)
            return page() if page is not None else (404, _TEXT, b"there is no such page\n")
        except ValueError as e:
            return 400, _TEXT, f"{e}\n".encode()
        except Unavailable as e:
            return 503, _TEXT, f"{e.sentence}\n".encode()
        except TimeoutError:
            return 503, _TEXT, b"the agent is busy\n"
        except Exception:
            log.exception("a fault of our own, in %s", self.path.partition("?")[0])
            return 500, _TEXT, b"a fault in the agent: see its log\n"

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Probes ask every few seconds; a quiet system logs nothing."""


def _handler(pages: dict[str, Page], served: tuple[str, ...], queried: Mapping[str, Queried] | None = None) -> type[_Handler]:
    return type("Handler", (_Handler,), {"pages": {path: pages[path] for path in served}, "queried": dict(queried or {})})
