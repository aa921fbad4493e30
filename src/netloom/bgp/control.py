"""Control: BIRD's control socket, and never longer than a deadline.

    ⇐ 0001 BIRD 2.0.12 ready.
    ⇒ show status
    ⇐ 1000-BIRD 2.0.12
      1011-Router ID is 10.0.0.1
       Hostname is node-a          a space at the start: the code of the line before
      0013 Daemon is up and running    no dash after the code: the last line

Codes from 8000 on are refusals.  A connection for each question: BIRD takes a tenth of a millisecond for one, and nothing is left
between two questions.  A BIRD that stands still takes connections and says nothing, so every wait has the same end; and what an answer
may hold at most is said by who asks.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import NamedTuple

from netloom.errors import Unavailable
from netloom.model.showing import shown

_LINE = re.compile(r"(\d{4})([- ])(.*)")
_PLACE = re.compile(r":(\d+):\d+ (.*)")
_REFUSED = 8000
_PIECE = 1 << 16
MOST = 4 << 20  # bytes of an answer, where who asks says nothing else


class Line(NamedTuple):
    code: int
    text: str


class Refused(Unavailable):
    """BIRD understood, and says no: `code` is its own."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def reason(text: str) -> str:
    """What BIRD says of a file, without the file's name."""
    found = _PLACE.search(text)
    return f"line {found[1]}: {shown(found[2])}" if found else shown(text)


class Control:
    """`seconds`: that one question may take as a whole.  For any thread."""

    def __init__(self, path: str, seconds: float = 3.0) -> None:
        self.path, self._seconds = path, seconds

    def ask(self, command: str, most: int = MOST) -> list[Line]:
        """The whole answer.  Raises Unavailable, or Refused in BIRD's words."""
        lines = [*self.lines(command, most)]
        refusal = next((line for line in lines if line.code >= _REFUSED), None)
        if refusal is not None:
            raise Refused(f"BIRD refuses {shown(command)}: {reason(refusal.text)}", refusal.code)
        return lines

    def lines(self, command: str, most: int = MOST) -> Iterator[Line]:
        """As they come; the last one has no mark of its own here.  Raises Unavailable."""
        if not command.isprintable():
            raise ValueError(f"{shown(command)} is not one command")
        deadline = time.monotonic() + self._seconds
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._seconds)
                connection.connect(self.path)
                texts = self._texts(connection, deadline, most)
                self._end_of(texts)
                connection.sendall(f"{command}\n".encode())
                yield from self._answer(texts)
        except TimeoutError as e:
            raise Unavailable(
                f"BIRD does not answer on {self.path}: it stands still", hint="look at its process and its log"
            ) from e
        except OSError as e:
            raise Unavailable(
                f"BIRD does not answer on {self.path}: {e.strerror or e}", hint="is it running? systemctl status netloom-bird"
            ) from e

    def _answer(self, texts: Iterator[str]) -> Iterator[Line]:
        code = 0
        for text in texts:
            if found := _LINE.match(text):
                code = int(found[1])
                yield Line(code, found[3])
                if found[2] == " ":
                    return
            elif text[:1] == " ":
                yield Line(code, text[1:])
            # `+`: a message of its log, which nobody here has asked for
        raise OSError("it hung up in the middle of an answer")

    def _end_of(self, texts: Iterator[str]) -> None:
        for _ in self._answer(texts):
            pass

    def _texts(self, connection: socket.socket, deadline: float, most: int) -> Iterator[str]:
        rest, received = b"", 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            piece = connection.recv(_PIECE)
            if not piece:
                return
            received += len(piece)
            if received > most:
                raise OSError(f"its answer is longer than {most} bytes")
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")
