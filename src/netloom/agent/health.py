"""Health: what others may ask over HTTP, and nothing they may change.

    health_address      /livez  /readyz  /metrics       for probes and Prometheus, on localhost
    RUN_DIR/netloom.sock  /v1/state                     the whole state as JSON, for the command line and the page

Threads of the standard library's server, one per request, with a deadline: a slow asker costs itself.  They read values that
the agent's loop has put there, never the loop's own data.
"""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from netloom.agent.state import STATE_PATH
from netloom.errors import ConfigError

Page = Callable[[], tuple[int, str, bytes]]
"""→ status, content type, body."""

_SECONDS = 5.0
_LOOP_LIMIT = 90.0  # seconds without a turn of the agent's loop: it hangs


class Health:
    """The agent puts its facts here; the pages read them."""

    def __init__(self, state: Callable[[], bytes], metrics: Callable[[], bytes]) -> None:
        self.ready = False
        self.reason = "starting"
        self._turned = time.monotonic()
        self._servers: list[socketserver.BaseServer] = []
        self._pages: dict[str, Page] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", metrics()),
            STATE_PATH: lambda: (200, "application/json", state()),
        }

    def turn(self) -> None:
        """Called by the loop, every few seconds."""
        self._turned = time.monotonic()

    def serve_address(self, address: str) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise ConfigError(f"{address!r} is not ADDRESS:PORT", path="healthAddress")
        host = host.strip("[]")
        server = _TcpV6Server if ":" in host else ThreadingHTTPServer
        try:
            self._start(server((host, int(port)), _handler(self._pages, ("/livez", "/readyz", "/metrics"))))
        except OSError as e:
            raise ConfigError(f"cannot listen on {address}: {e.strerror}", path="healthAddress") from e

    def serve_socket(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o117)  # root, and root's group: it is read-only
        try:
            self._start(_UnixServer(path, _handler(self._pages, (STATE_PATH, "/livez", "/readyz"))))
        except OSError as e:
            raise ConfigError(f"cannot listen on {path}: {e.strerror}", path="runDir") from e
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
            return 503, "text/plain", f"the loop has not turned for {silent:.0f} s\n".encode()
        return 200, "text/plain", b"ok\n"

    def _ready(self) -> tuple[int, str, bytes]:
        return (200, "text/plain", b"ok\n") if self.ready else (503, "text/plain", f"{self.reason}\n".encode())


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _TcpV6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = _SECONDS
    server_version = "netloom"
    sys_version = ""
    pages: ClassVar[dict[str, Page]] = {}

    def do_GET(self) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        status, kind, body = page() if page else (404, "text/plain", b"there is no such page\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Probes ask every few seconds; a quiet system logs nothing."""


def _handler(pages: dict[str, Page], served: tuple[str, ...]) -> type[_Handler]:
    return type("Handler", (_Handler,), {"pages": {path: pages[path] for path in served}})
