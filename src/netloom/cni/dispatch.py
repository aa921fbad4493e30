"""Dispatch: from a call on the socket to the answer that the client prints.  The one place where errors become CNI documents.

Whatever happens, the runtime gets a document of the specification: this is where the last resort is, for a fault of our own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from netloom.cni.collecting import Collector
from netloom.cni.messages import Add, Check, Collect, Delete, parse, version_of
from netloom.cni.operations import TRY_AGAIN, UNAVAILABLE, Operations
from netloom.cni.protocol import Call
from netloom.cni.results import encode_error, encode_result, result
from netloom.cni.tombstones import Tombstones
from netloom.dataplane import netns as namespaces
from netloom.errors import CniError, NetloomError
from netloom.model.attachments import NetnsId

log = logging.getLogger(__name__)

INTERNAL = 999  # what the reference plugins use

Observer = Callable[[str, int, float], None]
"""(command, code, seconds): for metrics."""


class Dispatcher:
    """`unready`: why this node cannot serve ADD now, or None.  `closed`: why it should not, though it could: no fault, so STATUS does
    not tell of it."""

    def __init__(
        self,
        operations: Operations,
        collector: Collector,
        tombstones: Tombstones,
        host: NetnsId,
        unready: Callable[[], str | None],
        observe: Observer,
        closed: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._operations, self._collector, self._tombstones, self._host = operations, collector, tombstones, host
        self._unready, self._observe, self._closed = unready, observe, closed

    async def handle(self, call: Call, netns: int | None, abandoned: Callable[[], bool]) -> tuple[int, bytes]:
        """Exit code and what is printed.  Never raises."""
        start, code = time.perf_counter(), 0
        try:
            return 0, await self._answer(call, netns, abandoned)
        except CniError as e:
            code, error = e.code, e
        except NetloomError as e:
            code, error = INTERNAL, CniError(INTERNAL, str(e), e.hint or "")
        except OSError as e:  # out of descriptors, most likely: later there may be some
            code, error = TRY_AGAIN, CniError(TRY_AGAIN, f"the agent lacks what it needs: {e.strerror or e}")
        except Exception as e:
            log.exception("a fault of our own, in %s", call.environment.get("CNI_COMMAND"))
            code, error = INTERNAL, CniError(INTERNAL, f"a fault in the agent: {type(e).__name__}", "see the agent's log")
        finally:
            command = call.environment.get("CNI_COMMAND", "")
            observed = command if command in _COMMANDS else "other", code, time.perf_counter() - start
            asyncio.get_running_loop().call_soon(self._observe, *observed)  # the runtime need not wait for our figures
        return 1, encode_error(error, version_of(call.stdin))

    async def _answer(self, call: Call, netns: int | None, abandoned: Callable[[], bool]) -> bytes:
        request = parse(call.environment, call.stdin, _identify(netns), self._host)
        if isinstance(request, Delete):
            await self._operations.delete(request.key)
            return b""
        if isinstance(request, Collect):
            await self._collector.collect(request)
            return b""
        if isinstance(request, Add | Check):
            assert netns is not None  # parse refuses what has none
            if isinstance(request, Check):
                self._operations.check(request, netns)
                return b""
            return await self._add(request, netns, abandoned)
        if reason := self._unready():
            raise CniError(UNAVAILABLE, f"this node cannot take pods: {reason}")
        await self._operations.status(request)
        return b""

    async def _add(self, request: Add, netns: int, abandoned: Callable[[], bool]) -> bytes:
        if reason := self._unready():
            raise CniError(TRY_AGAIN, f"this node cannot take pods yet: {reason}")
        if reason := self._closed():
            raise CniError(TRY_AGAIN, f"this node takes no new pods: {reason}")
        if self._tombstones.waiting():
            await self._tombstones.take_up(self._operations.delete)
        attachment = await self._operations.add(request, netns, abandoned)
        return encode_result(result(attachment, request.sandbox, request.dns, request.previous), request.version)


_COMMANDS = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS"})


def _identify(netns: int | None) -> NetnsId | None:
    """None for what is no network namespace."""
    if netns is None:
        return None
    try:
        return namespaces.identify(netns)
    except OSError:
        return None
