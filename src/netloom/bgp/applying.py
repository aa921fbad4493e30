"""Applying: bird.conf is what is wanted, and BIRD has read it.

    text ─▶ differs from the file? ─▶ bird.conf.new ─▶ bird -p ─▶ rename          a text that does not parse ends here
         ─▶ has BIRD another one?  ─▶ configure timeout ─▶ sessions as before? ─▶ configure confirm
                                                            └─ no: configure undo, and the file of before

Both questions are asked each time, and nothing is remembered between two calls but what has been refused: the file says what it holds,
and BIRD tells the fingerprint of what it has read.  So it is all one whether this process was killed in between, BIRD was started with
an older file, or somebody else has edited it.  Between any two lines there is a file that BIRD can start with.

`configure timeout` makes BIRD itself go back when nobody confirms: also when this process dies before it has looked.  Looked at are the
sessions that were up and that the new text does not change; those it changes may have to wait for the other end, and a peer that just then
dies is not the text's fault.

The file is root's, and its group's, which BIRD runs in (0640): passwords are in it.  The group is the folder's (`bird`, where the host
has one).  For one thread at a time; it may wait for seconds, so that is not the loop's.
"""

from __future__ import annotations

import grp
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from netloom.bgp import status
from netloom.bgp.control import Control, Refused, reason
from netloom.bgp.rendering import CONTENT, blocks, content, goes_on
from netloom.durable import write_durably
from netloom.errors import ConfigError, Unavailable
from netloom.model.showing import shown

UNDO = 30
"""Seconds until BIRD goes back by itself."""
_PATIENCE = 20.0  # seconds that sessions have to be up again; less than UNDO
_CHECK = 30.0  # seconds that `bird -p` may take
_LOOK = 0.05
_MODE, _FOLDER_MODE, _THROUGH = 0o640, 0o2750, 0o710
_GROUP = "bird"
_SBIN = "/usr/sbin:/usr/local/sbin"
_AGAIN = 600.0  # seconds until a text that was refused is tried again
_LONGEST = 64 << 20  # characters of a file that can be ours
_LONGEST_ANSWER = 64 << 20  # bytes about all protocols: 2 KB for each session


@dataclass(frozen=True, slots=True)
class Place:
    """Where BIRD's file and control socket are, and its program, which is only asked whether a text is right; empty: as found."""

    config: str
    socket: str
    program: str = ""


class Rejected(ConfigError):
    """A text that BIRD cannot use, or that took sessions down; what was there before stands."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Of the text with this fingerprint, which is not tried again before `until`."""

    content: str
    reason: Rejected
    until: float


class Bird:
    """`clock`, `pause`: of a test."""

    def __init__(
        self, place: Place, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.place, self.control = place, Control(place.socket)
        self._clock, self._pause = clock, pause
        self._refused: _Refusal | None = None
        self._confirmed = False

    def apply(self, text: str) -> bool:
        """Whether anything had to be done.  Raises Rejected; Unavailable: the file is right, BIRD is away; ConfigError: the file cannot
        be written."""
        want = content(text)
        if (refused := self._refusal_of(text)) is not None:
            raise refused.reason
        before = self._read()
        try:
            if before != text:
                self._replace(text, unchecked=before is None)
            read = self._content_of_bird()
            if read == want:
                self._confirm_once()
                return before != text
            self._configure(text, before if before is not None and content(before) == read else None)
        except Rejected as e:
            self._refused = _Refusal(want, e, self._clock() + _AGAIN)
            if before is not None and before != text:
                self._write(before)
            raise
        self._refused = None
        return True

    def _refusal_of(self, text: str) -> _Refusal | None:
        found = self._refused
        return found if found is not None and found.content == content(text) and self._clock() < found.until else None

    def ended_by(self, text: str) -> frozenset[str]:
        """Sessions that are up, and that BIRD would end or begin anew if it were told this.  Raises ConfigError, Unavailable."""
        if self._refusal_of(text) is not None:
            return frozenset()
        before, read = self._read() or "", self._content_of_bird()
        if read == content(text):
            return frozenset()
        wanted, known = blocks(text), blocks(before) if read == content(before) else {}
        return frozenset(
            name
            for name, peer in self.peers().items()
            if peer.established and not (name in wanted and name in known and goes_on(known[name], wanted[name]))
        )

    # the file

    def is_ours(self) -> bool:
        """Whether the file that is there was made here, and not by a person who runs a BIRD of their own."""
        try:
            return bool(content(self._read() or ""))
        except ConfigError:
            return False

    def _read(self) -> str | None:
        """None: there is none that can be ours."""
        try:
            with open(self.place.config, encoding="utf-8", errors="strict") as file:
                return file.read(_LONGEST)
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        except OSError as e:
            raise ConfigError(f"cannot be read: {e.strerror}", where=self.place.config) from e

    def _replace(self, text: str, *, unchecked: bool) -> None:
        """`unchecked`: one that nobody can check now is better than none."""
        self._make_folders()
        trial = f"{self.place.config}.trial"
        try:
            self._write(text, trial)
            self._check(trial, unchecked=unchecked)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(trial)
        self._write(text)

    def _check(self, path: str, *, unchecked: bool) -> None:
        program = self._program()
        if program is None:
            try:
                self.control.ask(f"configure check {_quoted(path)}")
            except Refused as e:
                raise Rejected(str(e), where=path) from e
            except Unavailable:
                if not unchecked:
                    raise
            return
        try:
            done = subprocess.run(
                [program, "-p", "-c", path], capture_output=True, text=True, errors="replace", timeout=_CHECK, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise Unavailable(
                f"{program} cannot say whether a configuration is right: {e}", hint="apt-get install bird2"
            ) from e
        if done.returncode != 0:
            words = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise Rejected(f"BIRD would not take the new configuration: {reason(words[0])}", hint="netloom bgp render")

    def _program(self) -> str | None:
        if self.place.program:
            return self.place.program
        return shutil.which("bird", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")

    def _write(self, text: str, path: str = "") -> None:
        path = path or self.place.config
        try:
            write_durably(path, text.encode(), _MODE, group=os.stat(os.path.dirname(path)).st_gid)
        except OSError as e:
            raise ConfigError(f"cannot be written: {e.strerror}", where=path, hint="df -h; ls -ld the folder") from e

    def _make_folders(self) -> None:
        """Made once; what is there is somebody's."""
        try:
            group = grp.getgrnam(_GROUP).gr_gid
        except KeyError:
            group = 0
        for path in (self.place.config, self.place.socket):
            folder = os.path.dirname(path)
            try:
                if not os.path.isdir(folder):
                    os.makedirs(folder, mode=0o700)
                    os.chown(folder, 0, group)
                    os.chmod(folder, _FOLDER_MODE)
                if group:
                    _let_through(os.path.dirname(folder), group)
            except OSError as e:
                raise ConfigError(f"cannot be made: {e.strerror}", where=folder) from e

    # the daemon

    def peers(self) -> dict[str, status.Peer]:
        """Raises Unavailable."""
        return status.peers(self.control.ask("show protocols all", _LONGEST_ANSWER))

    def _content_of_bird(self) -> str | None:
        """The fingerprint of what BIRD has read; None: another's text.  Raises Unavailable."""
        try:
            return self.control.ask(f"eval {CONTENT}")[-1].text.strip('"')
        except Refused:
            return None

    def _confirm_once(self) -> None:
        """Whoever began this, and was killed before the end, has not."""
        if not self._confirmed:
            self.control.ask("configure confirm")
            self._confirmed = True

    def _configure(self, text: str, before: str | None) -> None:
        """`before`: what BIRD has read, where that is known."""
        self._confirmed = False
        wanted, known = blocks(text), blocks(before or "")
        stay = {name for name, peer in self.peers().items() if peer.established and wanted.get(name, "") == known.get(name)}
        try:
            self.control.ask(f"configure timeout {UNDO}")
        except Refused as e:
            raise Rejected(str(e), where=self.place.config, hint="netloom bgp render") from e
        if missing := self._missing(content(text), stay):
            with suppress(Unavailable):  # then it goes back by itself
                self.control.ask("configure undo")
            raise Rejected(missing, where=self.place.config, hint="netloom bgp diff")
        self.control.ask("configure confirm")
        self._confirmed = True

    def _missing(self, want: str, stay: set[str]) -> str:
        """What is not as it has to be when time is up, in words; empty as soon as all is.

        A session counts that was down at the first look, and says nothing of a peer or a link that went by itself.  Of several most have
        to come back: in a large cluster somebody always dies just then."""
        deadline, fallen = self._clock() + _PATIENCE, None
        while True:
            words, down = self._not_yet(want, stay)
            if down is not None:
                fallen = down if fallen is None else fallen
                down &= fallen
            late = self._clock() > deadline
            if not words and not down:
                return ""
            if late and words:
                return words
            if late and down and fallen:
                most_are_up = 2 * len(down) < len(fallen)
                names = ", ".join(sorted(down)[:3])
                return "" if most_are_up else f"the new configuration took sessions down that it does not change: {names}"
            self._pause(_LOOK)

    def _not_yet(self, want: str, stay: set[str]) -> tuple[str, set[str] | None]:
        """Words for what is wrong with BIRD as a whole; and sessions that are down through nobody else."""
        try:
            if self._content_of_bird() != want:
                return f"BIRD reads another file; start it with -c {self.place.config}", None
            peers = self.peers()
        except Unavailable as e:
            return f"after the new configuration {e}", None
        return "", {name for name in stay if name not in peers or not (peers[name].established or peers[name].left)}


def _let_through(folder: str, group: int) -> None:
    """BIRD opens its file by name, as a user of its own: a folder that is closed to all is opened to its group, which may pass and not
    look around."""
    state = os.stat(folder)
    if state.st_uid == os.geteuid() and not state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        os.chown(folder, -1, group)
        os.chmod(folder, _THROUGH)


def _quoted(path: str) -> str:
    if '"' in path or not path.isprintable():
        raise ConfigError(f"{shown(path)} cannot be told to BIRD", path="birdConfig")
    return f'"{path}"'
