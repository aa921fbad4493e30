"""A line: one gRPC channel to one server, what we show there (certificate, token), and what its refusals mean.

Everything that gRPC says is put into our words here, once.  Lost: the server is of no use now, and another one may be asked.
Expired: our token has run out, nothing was done, another one has to be shown.  Everything else is an answer, and it is no.

A server that is stopped, or behind a cable that is cut, says nothing at all; HTTP/2 pings find that out while a call is open, and
a time limit on every call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Protocol

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # children of ours are other programs at once; and of its core's
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # complaints there is nothing to do about that we do not say ourselves
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")  # a name means what it means to every other program here
import grpc  # which reads them

from netloom.datastore.etcd import messages
from netloom.datastore.etcd.target import Server, Target
from netloom.errors import Compacted, DatastoreError, Unavailable

ANSWER = 5.0
"""Seconds that a server has for its answer."""
MESSAGE = 64 << 20
"""Bytes of the longest answer."""

_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 3_000),  # without it a dead connection stands for a minute
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE),
    ("grpc.use_local_subchannel_pool", 1),  # a new line waits for no back-off of an old one
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # a write is sent once
)
_Metadata = tuple[tuple[str, str], ...]
_METADATA: _Metadata = (("hasleader", "true"),)  # a member that has lost the others says so, rather than nothing
_TOKEN_RAN_OUT = "invalid auth token"  # noqa: S105 (etcd's words)
_USERS_CHANGED = "revision of auth store is old"
_NO_USERS = "authentication is not enabled"
_REASON = re.compile(r"failed to connect to all addresses; last error: [A-Z]+: \S+: (Failed to connect to remote host: )?")


class Lost(Unavailable):
    """This server is of no use now."""


class Expired(Unavailable):
    """The token ran out; nothing was done."""


class TooLarge(Unavailable):
    """The answer is longer than MESSAGE."""


class Answers(Protocol):
    """A call that goes on."""

    def __iter__(self) -> Iterator[bytes]: ...

    def cancel(self) -> bool: ...


class Line:
    """Raises Unavailable where a file cannot be read."""

    def __init__(self, server: Server, target: Target) -> None:
        self.server, self._target = server, target
        self._token: str | None = None
        if server.tls:
            self._channel = grpc.secure_channel(server.place, _credentials(target), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(server.place, options=_OPTIONS)

    def log_in(self) -> None:
        """With user and password, if there is one.  Raises Lost, Unavailable."""
        if not self._target.user:
            return
        password = _read(self._target.password_file, "etcdPasswordFile").decode(errors="replace").strip()
        try:
            answer = self._ask(messages.AUTHENTICATE, messages.credentials(self._target.user, password), ANSWER, _METADATA)
        except DatastoreError as e:
            if _NO_USERS not in str(e):
                raise
        else:
            self._token = messages.token(answer)

    def ask(self, method: str, request: bytes, timeout: float | None = None) -> bytes:
        """The answer, within ANSWER or `timeout`.  Raises Lost, Expired, TooLarge, Compacted, Unavailable, DatastoreError."""
        return self._ask(method, request, ANSWER if timeout is None else timeout, self._metadata)

    def _ask(self, method: str, request: bytes, timeout: float, metadata: _Metadata) -> bytes:
        try:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method, None, None)
            return call(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as e:
            raise self.refusal(e) from e
        except ValueError as e:  # somebody has closed the line
            raise Lost(f"{self.server}: {e}") from e

    def watch(self, requests: Iterator[bytes]) -> Answers:
        """Answers to requests, as long as both go on; what it raises is for `refusal`."""
        try:
            call: grpc.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(messages.WATCH, None, None)
            return call(requests, metadata=self._metadata)
        except ValueError as e:
            raise Lost(f"{self.server}: {e}") from e

    def refusal(self, error: grpc.RpcError) -> DatastoreError:
        """In our words."""
        code, details = error.code(), error.details() or ""
        make = _MEANINGS.get(code)
        return make(self, details) if make else Unavailable(f"{self.server}: {details} ({code.name})", hint=self._hint)

    def refused(self, details: str) -> DatastoreError:
        """What etcd itself says no with."""
        said = details.removeprefix("etcdserver: ")
        who = (
            f"user {self._target.user}"
            if self._target.user
            else "the certificate's user"
            if self._target.cert_file
            else "nobody"
        )
        if _TOKEN_RAN_OUT in said or _USERS_CHANGED in said:
            return Expired(f"{self.server}: {said}")
        if "permission denied" in said:
            return Unavailable(
                f"{self.server} does not permit {who} to use {self._target.prefix}/",
                hint=f"etcdctl role grant-permission ROLE --prefix=true readwrite {self._target.prefix}/",
            )
        if "user name is empty" in said:
            return Unavailable(f"{self.server} wants to know who we are", hint="set etcdUser and etcdPasswordFile")
        if "authentication failed" in said:
            return Unavailable(f"{self.server}: wrong user or password", hint=f"see {self._target.password_file}")
        if "compacted" in said or "future revision" in said:
            return Compacted(f"{self.server}: {said}")
        if "space exceeded" in said:
            return Unavailable(f"{self.server} is full: {said}", hint="etcdctl compact, defrag, and alarm disarm")
        if "too large" in said or "larger than max" in said:
            return DatastoreError(f"{self.server}: this object is too large: {said}", hint="etcd takes 1.5 MiB")
        return Unavailable(f"{self.server}: {said}", hint=self._hint)

    def away(self, details: str) -> DatastoreError:
        return Lost(f"{self.server} cannot be reached: {_REASON.sub('', details)}", hint=self._hint)

    def silent(self, details: str) -> DatastoreError:
        return Lost(f"{self.server} gives no answer", hint=self._hint)

    def too_large(self, details: str) -> DatastoreError:
        """The one in the answer, or ours in a request: the server says that with its own name before it."""
        ours = details.startswith("grpc:")
        return TooLarge(f"{self.server}: {details}") if "larger than max" in details and not ours else self.refused(details)

    def close(self) -> None:
        """Calls under way end."""
        self._channel.close()

    @property
    def _metadata(self) -> _Metadata:
        return (*_METADATA, ("token", self._token)) if self._token else _METADATA

    @property
    def _hint(self) -> str:
        return f"etcdctl --endpoints={self.server} endpoint health"


_MEANINGS: dict[grpc.StatusCode, Callable[[Line, str], DatastoreError]] = {
    grpc.StatusCode.UNAVAILABLE: Line.away,
    grpc.StatusCode.CANCELLED: Line.away,
    grpc.StatusCode.UNKNOWN: Line.away,
    grpc.StatusCode.INTERNAL: Line.away,
    grpc.StatusCode.DEADLINE_EXCEEDED: Line.silent,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Line.too_large,
    grpc.StatusCode.PERMISSION_DENIED: Line.refused,
    grpc.StatusCode.UNAUTHENTICATED: Line.refused,
    grpc.StatusCode.INVALID_ARGUMENT: Line.refused,
    grpc.StatusCode.FAILED_PRECONDITION: Line.refused,
    grpc.StatusCode.OUT_OF_RANGE: Line.refused,
}


def _credentials(target: Target) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        _read(target.ca_file, "etcdCaFile") if target.ca_file else None,
        _read(target.key_file, "etcdKeyFile") if target.key_file else None,
        _read(target.cert_file, "etcdCertFile") if target.cert_file else None,
    )


def _read(path: str, setting: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        raise Unavailable(f"{setting}: {path} cannot be read: {e.strerror}", hint=f"ls -l {path}") from e
