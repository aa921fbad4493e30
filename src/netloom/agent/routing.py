"""Routing: this node's BIRD does what the last pass wanted; the agent's side of `netloom.bgp`.

    a pass ended ──▶ another BgpConfig? ──┐
    a few seconds ─▶ look again ──────────┴─▶ one thread: passwords, text, file, BIRD, sessions ─▶ View ─▶ status, metrics

BIRD may be slow, or stand still; so whatever asks it is done in a thread of its own, one thing at a time, and what changes meanwhile is
done after that as one.  Each look compares anew: a BIRD that was away, or somebody's edit of the file, needs no event.

BGP is off where nothing wants it.  A node that never had it is left alone: no file, no socket, no word, and whose bird.conf is there
keeps it.  One that had it gets a file without sessions, and BIRD takes its routes back.  A node that drains and has no pods left tells
its peers of no way here any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from netloom.agent.background import Background
from netloom.agent.passwords import passwords
from netloom.agent.standby import AHEAD, Standby
from netloom.agent.troubles import Troubles
from netloom.bgp import status
from netloom.bgp.applying import Bird, Place
from netloom.bgp.rendering import render
from netloom.bgp.wording import trouble
from netloom.config import Settings
from netloom.errors import ConfigError, NetloomError, Unavailable
from netloom.model import secret
from netloom.model.routing import BgpConfig, Secret

log = logging.getLogger(__name__)

_WHAT = "BIRD", "BGP sessions"
_STANDBY = 1.0  # seconds between looks while ways stand by
_PASS = 10.0  # seconds that a pass has to put them in place
_REST = 50.0  # times what a look took, until the next one that nothing calls for


@dataclass(frozen=True, slots=True)
class View:
    """What is known of BIRD.  `config`: what is wanted of it.  `refused`: why it does not have that; `away`: why it does not answer, and
    `since`: when that began or ended, in seconds of the epoch; 0: it was never asked."""

    config: BgpConfig | None = None
    refused: str = ""
    away: str = ""
    since: float = 0.0
    daemon: status.Daemon | None = None
    peers: Mapping[str, status.Peer] = field(default_factory=dict)
    bfd: Mapping[str, str] = field(default_factory=dict)
    changes: int = 0

    @property
    def used(self) -> bool:
        return self.since > 0

    def troubles(self, now: float) -> dict[str, str]:
        """What is wrong with sessions, by name."""
        if self.config is None or self.away:
            return {}
        found = {session.name: trouble(session, self.peers.get(session.name), now) for session in self.config.sessions}
        return {name: words for name, words in found.items() if words}


class Routing:
    """For the loop that made it.  `empty`: this node has no pods.  `view`: as of the last look, may be read by any thread."""

    def __init__(
        self, settings: Settings, background: Background, troubles: Troubles, standby: Standby, empty: Callable[[], bool]
    ) -> None:
        self._settings, self._background, self._troubles, self._empty = settings, background, troubles, empty
        self._standby = standby
        self.place = Place(*settings.bird)
        self._bird = Bird(self.place)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bird")
        self._wanted: BgpConfig | None = None
        self._secrets: Mapping[str, secret.Secret] = {}
        self._busy = self._again = False
        self._known: bool | None = None
        """Whether a pass has known the whole cluster; None: there was none."""
        self._rested = 0.0
        self._rendered: tuple[BgpConfig | None, Mapping[Secret, str], str] | None = None
        self._standing: frozenset[str] = frozenset()
        self.view = View()

    def passed(self, wanted: BgpConfig | None, secrets: Mapping[str, secret.Secret], *, complete: bool) -> None:
        """A pass has ended.  BIRD is told nothing before one has known the whole cluster, and is only looked at."""
        if self._known is not None and complete <= self._known and wanted == self._wanted and secrets == self._secrets:
            return
        self._known, self._wanted, self._secrets = complete or bool(self._known), wanted, secrets
        self._begin()

    def look_after(self) -> None:
        """Every few seconds; with thousands of sessions less often: a look takes its time."""
        if self._known is not None and not self._busy and time.monotonic() > self._rested:
            self._begin()

    def asked(self) -> View:
        """Of BIRD now, for any thread."""
        before = self.view
        if not before.used:
            return before
        try:
            return self._with_peers(replace(before, away=""))
        except Unavailable as e:
            return replace(before, away=e.sentence, peers={})

    def stop(self) -> None:
        """BIRD goes on."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        if self._busy:
            self._again = True
            return
        self._busy = True
        self._background.begin(_WHAT[0], self._agree())

    async def _agree(self) -> None:
        loop, prepared = asyncio.get_running_loop(), False
        try:
            while True:
                self._again = False
                wanted, secrets, before = self._wanted, self._secrets, self.view
                if wanted is not None and wanted.draining and self._empty():
                    wanted = replace(wanted, withdrawn=True)
                known = bool(self._known)
                if known and wanted is not None and not prepared:
                    ended = await loop.run_in_executor(self._thread, self._ended_by, wanted, secrets)
                    if ended and self._standby.begin(ended):
                        await self._until_they_stand_by()
                        prepared = True
                        continue
                begun = time.monotonic()
                self.view = await loop.run_in_executor(self._thread, self._look, wanted, secrets, before, known)
                self._rested = time.monotonic() + _REST * (time.monotonic() - begun)
                self._tell()
                self._look_at_standby()
                if not self._again:
                    break
                prepared = False
        finally:
            self._busy = False
        if self.view.refused or self.view.away:
            raise NetloomError("; ".join(filter(None, (self.view.refused, self.view.away))))

    def _tell(self) -> None:
        """Of a session that is not up only what stands for two looks: most are on their way."""
        found = self.view.troubles(time.time())
        origins = {session.name: session for session in self.view.config.sessions} if self.view.config else {}
        words = {f"{origins[name].origin} ({origins[name].address}): {words}" for name, words in found.items()}
        self._troubles.report(_WHAT[1], *sorted(words & self._standing))
        self._standing = frozenset(words)

    async def _until_they_stand_by(self) -> None:
        """At least a second: for other nodes."""
        await asyncio.sleep(AHEAD)
        deadline = time.monotonic() + _PASS
        while not self._standby.stands and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    def _look_at_standby(self) -> None:
        sessions = self.view.config.sessions if self.view.config else ()
        up = [name for name, peer in self.view.peers.items() if peer.established]
        self._standby.look([session.name for session in sessions], up)
        if self._standby.is_on:
            asyncio.get_running_loop().call_later(_STANDBY, self.look_after)

    # in the thread

    def _ended_by(self, wanted: BgpConfig, secrets: Mapping[str, secret.Secret]) -> frozenset[str]:
        try:
            return self._bird.ended_by(self._text(wanted, passwords(wanted, self._settings.state_dir, secrets)))
        except (ConfigError, Unavailable):
            return frozenset()  # who tells BIRD says what is wrong

    def _look(self, wanted: BgpConfig | None, secrets: Mapping[str, secret.Secret], before: View, known: bool) -> View:
        if wanted is None and (not known or not self._bird.is_ours()):
            return View()
        view = replace(before, config=wanted, refused="")
        away = ""
        if known:
            try:
                view = self._told(view, secrets)
            except ConfigError as e:
                view = replace(view, refused=e.sentence)
            except Unavailable as e:
                away = e.sentence
        if not away:
            try:
                view = self._with_peers(view)
            except Unavailable as e:
                away = e.sentence
        if wanted is None and away:
            return View()  # nobody needs it
        if not view.used or bool(away) != bool(view.away):
            view = replace(view, since=time.time())
        return replace(view, away=away, peers={} if away else view.peers)

    def _told(self, view: View, secrets: Mapping[str, secret.Secret]) -> View:
        """Raises ConfigError, Unavailable."""
        start, wanted = time.perf_counter(), view.config
        text = self._text(wanted, passwords(wanted, self._settings.state_dir, secrets))
        if not self._bird.apply(text):
            return view
        sessions = len(wanted.sessions) if wanted else 0
        log.info("BIRD was told of %d sessions ms=%.1f", sessions, (time.perf_counter() - start) * 1000)
        return replace(view, changes=view.changes + 1)

    def _text(self, wanted: BgpConfig | None, found: Mapping[Secret, str]) -> str:
        """The last one, where nothing has changed."""
        if self._rendered is None or self._rendered[:2] != (wanted, found):
            self._rendered = wanted, found, render(wanted, found, self._settings.node_name)
        return self._rendered[2]

    def _with_peers(self, view: View) -> View:
        ask = self._bird.control.ask
        with_bfd = view.config is not None and any(session.bfd for session in view.config.sessions)
        return replace(
            view,
            daemon=status.daemon(ask("show status")),
            peers=self._bird.peers(),
            bfd=status.bfd(ask("show bfd sessions")) if with_bfd else {},
        )
