from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from netloom.agent.state import encode
from netloom.cli.agent_socket import state
from netloom.errors import Unavailable
from tests.pure.cli.conftest import answering
from tests.pure.cli.samples import STATE


def test_the_agents_answer_is_what_it_said(tmp_path: Path) -> None:
    with answering(tmp_path / "s", encode(STATE)):
        assert state(f"{tmp_path}/s") == STATE


def test_fields_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    later = encode(STATE).replace(b'"node":"a"', b'"node":"a","colour":{"of":"hope"}', 1)
    with answering(tmp_path / "s", later):
        assert state(f"{tmp_path}/s") == STATE


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{}", 200, "cannot be read"),
        (b"<html>", 200, "cannot be read"),
        (encode(STATE), 500, "500 Internal Server Error"),
    ],
)
def test_an_answer_that_makes_no_sense_is_no_answer(body: bytes, status: int, reason: str, tmp_path: Path) -> None:
    with answering(tmp_path / "s", body, status), pytest.raises(Unavailable, match=reason):
        state(f"{tmp_path}/s")


def test_nobody_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nobody listens there"):
        state(f"{tmp_path}/s")


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"])
def test_silence_has_an_end(drip: bytes, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/s")
        server.listen()

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(drip)
                client.recv(4096)
                client.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            state(f"{tmp_path}/s", timeout=0.1)
        assert time.monotonic() - begun < 20
        thread.join()
