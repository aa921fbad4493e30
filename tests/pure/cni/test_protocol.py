from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netloom.cni import client, protocol
from netloom.cni.native.build import SOURCE
from netloom.cni.protocol import Call, pack_request, request_size, unpack_request
from netloom.cni.results import FALLBACK_VERSION, VERSIONS

_text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
_names = st.text(st.characters(exclude_characters="\0=", codec="utf-8"), max_size=20).map("CNI_".__add__)


@given(st.dictionaries(_names, _text, max_size=5), st.binary(max_size=100))
def test_what_is_packed_is_unpacked(environment: dict[str, str], stdin: bytes) -> None:
    frame = pack_request(environment, stdin)
    assert unpack_request(frame) == Call(environment, stdin)
    assert request_size(frame[: protocol.REQUEST_HEADER.size]) == len(frame)


def test_bytes_that_are_not_utf_8_survive() -> None:
    environment = {"CNI_NETNS": "/run/\udcff"}
    frame = pack_request(environment, b"")
    assert b"/run/\xff\0" in frame
    assert unpack_request(frame).environment == environment


@given(st.binary(max_size=40) | st.binary(max_size=30).map(b"NLM1".__add__))
def test_any_bytes_are_a_call_or_a_value_error(frame: bytes) -> None:
    try:
        call = unpack_request(frame)
    except ValueError:
        return
    assert isinstance(call, Call)


@pytest.mark.parametrize(
    ("start", "size"),
    [(b"", None), (b"NL", None), (b"NLM1\0\0\0\0", None), (b"NLM1" + bytes(8), 12), (b"NLM1\x02\0\0\0\x03\0\0\0", 17)],
)
def test_the_header_tells_the_size_as_soon_as_it_is_there(start: bytes, size: int | None) -> None:
    assert request_size(start) == size


@pytest.mark.parametrize(
    "start",
    [
        b"X",
        b"NLM2",
        b"GET / HTTP/1.1",
        b"NLM1" + b"\xff" * 8,
        b"NLM1\x01\0\x01\0" + bytes(4),
        b"NLM1" + bytes(4) + b"\x01\0\x10\0",
    ],
)
def test_what_no_client_sends_is_refused_as_early_as_it_shows(start: bytes) -> None:
    with pytest.raises(ValueError, match=r"NLM1|at most"):
        request_size(start)


@pytest.mark.parametrize("block", [b"CNI_A=1", b"CNI_A\0", b"\0"])
def test_a_damaged_environment_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match="variable"):
        unpack_request(protocol.REQUEST_HEADER.pack(b"NLM1", len(block), 0) + block)


def test_of_two_variables_of_one_name_the_first_counts() -> None:
    block = b"CNI_A=1\0CNI_A=2\0"
    assert unpack_request(protocol.REQUEST_HEADER.pack(b"NLM1", len(block), 0) + block).environment == {"CNI_A": "1"}


def test_an_answer_has_a_bound() -> None:
    with pytest.raises(ValueError, match="at most"):
        protocol.pack_answer(0, b"x" * (protocol.ANSWER_LIMIT + 1))


# The clients import nothing, so they say again what the protocol says.


def test_the_python_client_agrees_with_the_protocol() -> None:
    for name in ("MAGIC", "ACCEPTED", "ENVIRONMENT_LIMIT", "STDIN_LIMIT", "ANSWER_LIMIT"):
        assert getattr(client, name) == getattr(protocol, name)
    for name in ("STDIN_SECONDS", "ACCEPT_SECONDS", "ANSWER_SECONDS", "OUTPUT_SECONDS"):
        assert getattr(client, name) == getattr(protocol, name)
    assert client.SOCKET.endswith(f"/{protocol.SOCKET}".encode())
    assert client.TOMBSTONES.endswith(f"/{protocol.TOMBSTONES}".encode())
    assert client.FALLBACK_VERSION.decode() == FALLBACK_VERSION
    assert re.findall(r"\d+\.\d+\.\d+", client.SUPPORTED.decode()) == list(VERSIONS)


def test_the_native_client_agrees_with_the_protocol() -> None:
    source = SOURCE.read_text()
    numbers = {name: int(value) for name, value in re.findall(r"\b([A-Z_]+) = (\d+)\b", source)}
    for name in ("ENVIRONMENT_LIMIT", "STDIN_LIMIT", "ANSWER_LIMIT"):
        assert numbers[name] == getattr(protocol, name)
    for name in ("STDIN", "ACCEPT", "ANSWER", "OUTPUT"):
        assert numbers[f"{name}_MS"] == getattr(protocol, f"{name}_SECONDS") * 1000
    assert numbers["HEADER"] == protocol.REQUEST_HEADER.size


def test_the_clients_use_the_same_words() -> None:
    """Every message of the Python client is in the native one."""
    source = SOURCE.read_text()
    text = Path(client.__file__).read_text()
    messages = [*re.findall(r'Refusal\(\w+, b"([^"]+)"\)', text), client.NO_TOMBSTONE.decode()]
    assert len(messages) >= 8
    assert [message for message in messages if message not in source] == []
