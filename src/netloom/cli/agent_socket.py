"""Asks this node's agent: HTTP GET over the unix socket RUN_DIR/netloom.sock, under one deadline."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from netloom.agent.state import ROUTES_PATH, STATE_PATH, AgentState, KernelRoutes, decode, decode_routes
from netloom.errors import Unavailable

if TYPE_CHECKING:
    from netloom.agent.bgp_state import BgpDocument, BgpRoutes, BgpText

TIMEOUT, BIRDS_TIMEOUT = 3.0, 10.0
_T = TypeVar("_T")
_MAX_BYTES = 64 << 20
_LONGEST_REASON = 4096


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def state(path: str, timeout: float = TIMEOUT) -> AgentState:
    """Raises Unavailable: nobody answers, too late, or what cannot be understood."""
    return _asked(path, STATE_PATH, timeout, decode)


def routes(path: str, timeout: float = TIMEOUT) -> KernelRoutes:
    """As `state`."""
    return _asked(path, ROUTES_PATH, timeout, decode_routes)


def bgp(path: str, timeout: float = BIRDS_TIMEOUT) -> BgpDocument:
    """What BIRD says now.  As `state`."""
    from netloom.agent.bgp_state import BGP_PATH, decode_bgp

    return _asked(path, BGP_PATH, timeout, decode_bgp)


def bgp_text(path: str, timeout: float = TIMEOUT) -> BgpText:
    """As `state`."""
    from netloom.agent.bgp_state import CONFIG_PATH, decode_text

    return _asked(path, CONFIG_PATH, timeout, decode_text)


def bgp_routes(path: str, prefix: str | None, timeout: float = BIRDS_TIMEOUT) -> BgpRoutes:
    """As `state`."""
    from urllib.parse import quote

    from netloom.agent.bgp_state import BIRD_ROUTES_PATH, decode_bgp_routes

    query = f"?prefix={quote(prefix)}" if prefix else ""
    return _asked(path, f"{BIRD_ROUTES_PATH}{query}", timeout, decode_bgp_routes)


def _asked(path: str, url: str, timeout: float, read: Callable[[bytes], _T]) -> _T:
    try:
        return read(_get(path, url, timeout))
    except (OSError, http.client.HTTPException) as e:
        reason, hint = _reason(e)
        raise Unavailable(f"the agent does not answer on {path}: {reason}", hint=hint) from e
    except msgspec.DecodeError as e:  # ValidationError is one
        hint = "agent and command line may be of different versions: netloom system version"
        raise Unavailable(f"the agent's answer on {path} cannot be read: {e}", hint=hint) from e


def _reason(error: Exception) -> tuple[str, str]:
    """In words, and what to do."""
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return "nobody listens there", "start it: netloom agent"
        case PermissionError() if os.geteuid() != 0:
            return "only root may ask it", "try it as root"
    return getattr(error, "strerror", None) or str(error) or type(
        error
    ).__name__, "look again in a moment, and at the agent's log"


def _get(path: str, url: str, timeout: float) -> bytes:
    deadline = time.monotonic() + timeout
    connection = _Connection(path, timeout)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        if answer.status in (http.HTTPStatus.BAD_REQUEST, http.HTTPStatus.SERVICE_UNAVAILABLE):
            raise Unavailable(answer.read(_LONGEST_REASON).decode(errors="replace").strip())
        if answer.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"{answer.status} {answer.reason}")
        parts: list[bytes] = []
        while part := answer.read1(1 << 16):
            parts.append(part)
            if time.monotonic() > deadline or len(parts) << 16 > _MAX_BYTES:
                raise TimeoutError("the answer takes too long")
        return b"".join(parts)
    finally:
        connection.close()
