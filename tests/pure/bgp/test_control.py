"""BIRD's control socket when what listens there is not as it should be.  With a real one: tests/kernel/bgp."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from netloom.bgp.control import Control, Refused
from netloom.errors import Unavailable

WELCOME = b"0001 BIRD 2.0.12 ready.\n"


@contextmanager
def listening(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(4)

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):
                        serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield str(path)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.sendall(WELCOME)
        assert connection.recv(4096).endswith(b"\n")
        connection.sendall(answer)

    return serve


def test_an_answer_with_its_codes(tmp_path: Path) -> None:
    with listening(
        tmp_path / "ctl", answering(b"1000-BIRD 2.0.12\n1011-Router ID is 1.2.3.4\n Hostname is a\n+log\n0013 up\n")
    ) as path:
        found = Control(path).ask("show status")
    assert found == [(1000, "BIRD 2.0.12"), (1011, "Router ID is 1.2.3.4"), (1011, "Hostname is a"), (13, "up")]


def test_a_refusal_in_birds_words(tmp_path: Path) -> None:
    answer = answering(b"9001 syntax error, unexpected CF_SYM_UNDEFINED\n")
    with listening(tmp_path / "ctl", answer) as path, pytest.raises(Refused, match="syntax error") as caught:
        Control(path).ask("eval NOTHING")
    assert caught.value.code == 9001


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        Control(str(tmp_path / "ctl")).ask("show status")


def test_one_that_says_nothing_is_left_at_the_deadline(tmp_path: Path) -> None:
    silent = threading.Event()

    def wait(connection: socket.socket) -> None:
        silent.wait(5)

    with listening(tmp_path / "ctl", wait) as path:
        try:
            with pytest.raises(Unavailable, match="stands still"):
                Control(path, seconds=0.2).ask("show status")
        finally:
            silent.set()


def test_one_that_drips_is_left_at_the_deadline(tmp_path: Path) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(WELCOME)
        stop = threading.Event()
        while not stop.wait(0.02):
            connection.sendall(b"1000-more\n")

    with listening(tmp_path / "ctl", drip) as path, pytest.raises(Unavailable, match="stands still"):
        Control(path, seconds=0.3).ask("show status")


@pytest.mark.parametrize("sent", [b"", WELCOME, WELCOME + b"1000-half"])
def test_one_that_hangs_up(tmp_path: Path, sent: bytes) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.sendall(sent)

    with listening(tmp_path / "ctl", hang_up) as path, pytest.raises(Unavailable):
        Control(path).ask("show status")


def test_an_answer_that_never_ends_is_cut(tmp_path: Path) -> None:
    answer = answering(b"1000-" + b"x" * 100_000 + b"\n")
    with listening(tmp_path / "ctl", answer) as path, pytest.raises(Unavailable, match="longer than 1000 bytes"):
        Control(path).ask("show status", most=1000)


def test_a_command_is_one_line() -> None:
    with pytest.raises(ValueError, match="not one command"):
        Control("/nowhere").ask("show status\ndown")
