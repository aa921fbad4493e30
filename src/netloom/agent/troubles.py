"""Troubles: what is wrong now, by what it concerns.  Logged when it begins, when it becomes another, and when it is over.

What fails is tried again every second or so, and fails in the same words; a log that repeated them would hide everything else.
So whoever tries something tells each time how it went, and only news are logged.  Words should therefore hold no figures that
change from one try to the next.

with troubles.about("upkeep"):      # whatever goes wrong inside is a trouble, and ends here
    ...
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from netloom.errors import NetloomError

log = logging.getLogger(__name__)

_MOST = 20  # messages that are told of one report


class Troubles:
    """For one thread; `standing` may be read by any."""

    def __init__(self) -> None:
        self._standing: dict[str, tuple[str, ...]] = {}

    @property
    def standing(self) -> tuple[str, ...]:
        """One sentence each."""
        return tuple(f"{what}: {words}" for what, messages in sorted(self._standing.copy().items()) for words in _few(messages))

    def report(self, what: str, *messages: str) -> None:
        """All that is wrong with `what`; nothing: it is well."""
        before = self._standing.pop(what, ())
        if messages:
            self._standing[what] = messages
        _log(logging.WARNING, what, "", [m for m in messages if m not in before])
        _log(logging.INFO, what, "over: ", [m for m in before if m not in messages])

    @contextmanager
    def about(self, what: str) -> Iterator[None]:
        """How the block goes is a report.  A fault of our own is shown with its traceback, once."""
        try:
            yield
        except NetloomError as e:
            self.report(what, e.sentence)
        except OSError as e:
            self.report(what, str(e))
        except Exception as e:
            message = f"a fault of our own: {type(e).__name__}: {e}"
            if message not in self._standing.get(what, ()):
                log.exception("%s", what)
            self.report(what, message)
        else:
            self.report(what)


def _log(level: int, what: str, prefix: str, messages: list[str]) -> None:
    for words in _few(messages):
        log.log(level, "%s: %s%s", what, prefix, words)


def _few(messages: Sequence[str]) -> Sequence[str]:
    more = len(messages) - _MOST
    return [*messages[:_MOST], f"and {more} more"] if more > 0 else messages
