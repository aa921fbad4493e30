"""The other end of a forwarder's control socket: for the agent, for a successor, and for whoever looks."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Mapping
from typing import TypeVar

from netloom import unix_sockets
from netloom.errors import DataplaneError
from netloom.model.addresses import Address, Prefix
from netloom.tunnel.forwarder import messages
from netloom.tunnel.forwarder.messages import (
    Answer,
    Ask,
    Change,
    Done,
    Message,
    Read,
    Refused,
    Replace,
    State,
    Stop,
    Succeed,
    Succeeded,
    Succession,
    Whole,
)

A = TypeVar("A", bound=Answer)
_SECONDS = 2.0
_DESCRIPTORS = 8
_CHUNK = 256 << 10


def path(run_dir: str, device: str) -> str:
    return f"{run_dir}/{device}.sock"


class Client:
    """A connection.  Whatever goes wrong is a DataplaneError, and then it is of no more use."""

    def __init__(self, at: str, seconds: float = _SECONDS) -> None:
        self._device = os.path.basename(at).removesuffix(".sock")
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(seconds)
        try:
            self._socket.connect(at)
        except OSError as e:
            self._socket.close()
            raise self._error(f"no forwarder answers at {at}: {e.strerror}", e.errno or 0) from e

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Readable when the forwarder has ended: it says nothing unasked."""
        return self._socket.fileno()

    @property
    def pid(self) -> int:
        """Of the process that listens, whether it answers or not."""
        return unix_sockets.other_end(self._socket).pid

    @property
    def ended(self) -> bool:
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self._socket.close()

    def state(self, *, peers: bool = False) -> State:
        return self._ask(Ask(peers=peers), State)[0]

    def read(self) -> Whole:
        return self._ask(Read(), Whole)[0]

    def replace(self, tunnels: Mapping[Prefix, Address], senders: Iterable[Address], mtu: int) -> int:
        texts = {str(prefix): str(address) for prefix, address in tunnels.items()}
        return self._ask(Replace(tunnels=texts, senders=[str(a) for a in senders], mtu=mtu), Done)[0].number

    def change(
        self,
        put: Mapping[Prefix, Address] | None = None,
        delete: Iterable[Prefix] = (),
        believe: Mapping[Address, Address | None] | None = None,
        disbelieve: Iterable[Address] = (),
        mtu: int = 0,
    ) -> int:
        """The table's number afterwards: one more, if nobody else has changed it."""
        change = Change(
            put={str(prefix): str(address) for prefix, address in (put or {}).items()},
            delete=[str(p) for p in delete],
            believe=[str(a) for a in believe or ()],
            former={str(a): str(present) for a, present in (believe or {}).items() if present is not None},
            disbelieve=[str(a) for a in disbelieve],
            mtu=mtu,
        )
        return self._ask(change, Done)[0].number

    def stop(self) -> None:
        self._ask(Stop(), Done)

    def succeed(self, number: int) -> tuple[Succession, list[int]]:
        return self._ask(Succeed(number=number), Succession)

    def succeeded(self) -> None:
        """Whoever ends with that has nothing more to say."""
        try:
            self._socket.sendall(messages.frame(Succeeded()))
        except OSError as e:
            raise self._error(e.strerror or "it went away", e.errno or 0) from e

    def _ask(self, request: Message, expected: type[A]) -> tuple[A, list[int]]:
        descriptors: list[int] = []
        try:
            self._socket.sendall(messages.frame(request))
            while (document := messages.taken(self._buffer)) is None:
                data, received, _, _ = socket.recv_fds(self._socket, _CHUNK, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
                descriptors += received
                if not data:
                    raise ConnectionResetError(0, "it went away")  # one place for all that a socket may do
                self._buffer += data
            answer = messages.answer(document)
        except (OSError, ValueError) as e:
            _close(descriptors)
            reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e) or type(e).__name__
            code = errno.ETIMEDOUT if isinstance(e, TimeoutError) else e.errno if isinstance(e, OSError) else 0
            raise self._error(reason, code or 0) from e
        if isinstance(answer, expected):
            return answer, descriptors
        _close(descriptors)
        raise self._error(answer.reason if isinstance(answer, Refused) else f"answered {type(answer).__name__}")

    def _error(self, reason: str, code: int = 0) -> DataplaneError:
        return DataplaneError("forwarder", self._device, reason, errno=code)


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)
