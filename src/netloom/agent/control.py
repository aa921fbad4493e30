"""Control: the few things that a person on this node may tell its agent to do; RUN_DIR/control.sock, for root alone.

    {"command": "release-brake", "nodes": ["node-7"]}        one line of JSON in
    {"done": ["node-7"]}                                     one out; or {"error": "...", "hint": "..."}

What may only be looked at is elsewhere (`health`).  Each command stands in the log with who gave it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from netloom import unix_sockets
from netloom.errors import NetloomError
from netloom.model.showing import shown

log = logging.getLogger(__name__)

SOCKET = "control.sock"
_SECONDS = 5.0
_BYTES = 1 << 20
_BACKLOG = 8


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    command: str
    nodes: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    done: tuple[str, ...] = ()
    error: str = ""
    hint: str = ""


Command = Callable[[Request], tuple[str, ...]]
"""What was done, in words.  Raises NetloomError, OSError.  Runs in the agent's loop."""


class Control:
    def __init__(self, run_dir: str, commands: Mapping[str, Command]) -> None:
        self._commands = commands
        self._socket = unix_sockets.listen(f"{run_dir}/{SOCKET}", _BACKLOG)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, sock=self._socket, limit=_BYTES)

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                other = unix_sockets.other_end(writer.get_extra_info("socket"))
                line = await reader.readline()
                writer.write(msgspec.json.encode(self._answer(line, other)) + b"\n")
                await writer.drain()
        except (OSError, ValueError, TimeoutError) as e:
            log.debug("a command was not answered: %s", e or type(e).__name__)
        finally:
            writer.close()

    def _answer(self, line: bytes, other: unix_sockets.Other) -> Answer:
        if not other.is_root:
            log.warning("process %d of user %d may not tell the agent anything", other.pid, other.uid)
            return Answer(error="only root may tell the agent to do something", hint="try it as root")
        try:
            request = msgspec.json.decode(line, type=Request)
        except (msgspec.MsgspecError, RecursionError) as e:
            return Answer(error=f"the command cannot be read: {e}", hint="netloom system version")
        command = self._commands.get(request.command)
        if command is None:
            return Answer(error=f"this agent knows no command {shown(request.command)}", hint="netloom system version")
        try:
            done = command(request)
        except (NetloomError, OSError) as e:
            log.warning("control: %s, told by process %d, was not done: %s", request.command, other.pid, e)
            return Answer(error=str(e), hint=getattr(e, "hint", None) or "look at the agent's log")
        log.info(
            "control: %s, told by process %d of user %d: %s",
            request.command,
            other.pid,
            other.uid,
            ", ".join(done) or "nothing",
        )
        return Answer(done=done)


async def tell(run_dir: str, request: Request) -> Answer:
    """Raises OSError, TimeoutError, msgspec.DecodeError."""
    async with asyncio.timeout(_SECONDS):
        reader, writer = await asyncio.open_unix_connection(f"{run_dir}/{SOCKET}", limit=_BYTES)
        try:
            writer.write(msgspec.json.encode(request) + b"\n")
            return msgspec.json.decode(await reader.readline(), type=Answer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
