"""The frame between the CNI client and the agent: one request, one accepting byte, one answer, over a unix stream socket.

    request   b"NLM1" | u32 length of environment | u32 length of stdin | environment | stdin
              with at most one descriptor (SCM_RIGHTS): CNI_NETNS, opened
    accepted  b"."
    answer    u32 exit code | u32 length | what the client prints

Numbers are little endian.  The environment is `NAME=VALUE\\0` for each variable that starts with `CNI_`, as the runtime gave
it.  The accepting byte says that the agent holds the whole request; a client that does not get it in ACCEPT_SECONDS takes
the agent for dead.  A tombstone (a DEL that found no agent) is a file that holds one request frame.

The two clients (client.py and native/client.c) import nothing, so they state these numbers again; a test holds them together.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"NLM1"
ACCEPTED = b"."
SOCKET = "cni.sock"
TOMBSTONES = "tombstones"

ENVIRONMENT_LIMIT = 64 * 1024
STDIN_LIMIT = 1024 * 1024
ANSWER_LIMIT = 1024 * 1024

STDIN_SECONDS = 10.0
ACCEPT_SECONDS = 2.0
ANSWER_SECONDS = 60.0
OUTPUT_SECONDS = 60.0

REQUEST_HEADER = struct.Struct("<4sII")
ANSWER_HEADER = struct.Struct("<II")
REQUEST_LIMIT = REQUEST_HEADER.size + ENVIRONMENT_LIMIT + STDIN_LIMIT


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the runtime, as the client forwards it.  Bytes that are not UTF-8 are surrogates in `environment`."""

    environment: dict[str, str]
    stdin: bytes


def request_size(start: bytes) -> int | None:
    """How many bytes the request that starts like this has in all; None while too little of it is there to say.

    Raises ValueError for what no client sends, as early as it shows."""
    if not MAGIC.startswith(start[: len(MAGIC)]):
        raise ValueError("a request starts with NLM1")
    if len(start) < REQUEST_HEADER.size:
        return None
    _, environment, stdin = REQUEST_HEADER.unpack_from(start)
    if environment > ENVIRONMENT_LIMIT:
        raise ValueError(f"{environment} bytes of environment; at most {ENVIRONMENT_LIMIT}")
    if stdin > STDIN_LIMIT:
        raise ValueError(f"{stdin} bytes of stdin; at most {STDIN_LIMIT}")
    return REQUEST_HEADER.size + int(environment) + int(stdin)


def unpack_request(frame: bytes) -> Call:
    """A whole frame, from the socket or a tombstone; ValueError if it is something else."""
    if request_size(frame) != len(frame):
        raise ValueError("a request is longer or shorter than it says")
    _, length, _ = REQUEST_HEADER.unpack_from(frame)
    stdin = REQUEST_HEADER.size + length
    return Call(_unpack_environment(frame[REQUEST_HEADER.size : stdin]), frame[stdin:])


def _unpack_environment(block: bytes) -> dict[str, str]:
    if block and not block.endswith(b"\0"):
        raise ValueError("the last variable has no end")
    environment: dict[str, str] = {}
    for variable in block.split(b"\0")[:-1]:
        name, equals, value = variable.decode(errors="surrogateescape").partition("=")
        if not equals:
            raise ValueError("a variable has no value")
        environment.setdefault(name, value)  # of two the first counts, as with getenv(3)
    return environment


def pack_request(environment: dict[str, str], stdin: bytes) -> bytes:
    block = b"".join(f"{name}={value}\0".encode(errors="surrogateescape") for name, value in environment.items())
    return REQUEST_HEADER.pack(MAGIC, len(block), len(stdin)) + block + stdin


def pack_answer(exit_code: int, output: bytes) -> bytes:
    if len(output) > ANSWER_LIMIT:
        raise ValueError(f"an answer of {len(output)} bytes; at most {ANSWER_LIMIT}")
    return ANSWER_HEADER.pack(exit_code, len(output)) + output
