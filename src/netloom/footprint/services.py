"""systemd, where it runs: the agent as a service, BIRD as another one, and others told that they have new files to read.

BIRD's is started by its path unit, when the agent has written its file, and only ended here; it is not restarted with the agent.

Never restarted: systemd-networkd and NetworkManager, which at a start take away what they do not know.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

from netloom.errors import Unavailable
from netloom.footprint.files import BIRD, BIRD_PATH, UNIT

_BOOTED = "/run/systemd/system"  # sd_booted(3)
_DEADLINE = 120
_STARTING = 15.0  # seconds
_READERS = {
    "systemd-networkd.service": ("networkctl", "reload"),
    "NetworkManager.service": ("systemctl", "reload", "NetworkManager.service"),
}


def running() -> bool:
    """Whether systemd runs this machine."""
    return os.path.isdir(_BOOTED)


def is_active(unit: str = UNIT) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False, timeout=_DEADLINE).returncode == 0


def start(*, again: bool, dry: bool = False) -> Iterator[tuple[str, str]]:
    """Now and at every boot; `again`: what runs is another version.  What was done to which service; `dry`: would be."""
    _run("systemctl", "daemon-reload", dry=dry)
    yield from reload_readers(dry=dry)
    active = is_active()
    _run("systemctl", "enable", "--now", UNIT, BIRD_PATH, dry=dry)
    if active and again:
        _run("systemctl", "restart", UNIT, dry=dry)
    yield UNIT, "restarted" if active and again else "unchanged" if active else "started"


def stop(*, dry: bool = False) -> Iterator[tuple[str, str]]:
    """Now and for ever."""
    for unit in (UNIT, BIRD_PATH):
        if os.path.exists(f"/etc/systemd/system/{unit}"):
            _run("systemctl", "disable", "--now", unit, dry=dry)
            yield unit, "stopped"
    if is_active(BIRD):
        _run("systemctl", "stop", BIRD, dry=dry)
        yield BIRD, "stopped"


def forget(*, dry: bool = False) -> Iterator[tuple[str, str]]:
    """The files have gone."""
    _run("systemctl", "daemon-reload", dry=dry)
    yield from reload_readers(dry=dry)


def reload_readers(*, dry: bool) -> Iterator[tuple[str, str]]:
    for unit, command in _READERS.items():
        if is_active(unit):
            _tell(unit, command, dry=dry)
            yield unit, "reloaded"


def _tell(unit: str, command: tuple[str, ...], *, dry: bool) -> None:
    """One that has just been started may be active before it answers: NetworkManager has its name on the bus, and nothing there yet."""
    deadline = time.monotonic() + _STARTING
    while True:
        try:
            return _run(*command, dry=dry)
        except Unavailable:
            if time.monotonic() > deadline or not is_active(unit):
                raise
        time.sleep(0.2)


def _run(*command: str, dry: bool) -> None:
    if dry:
        return
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Unavailable(f"{' '.join(command)}: {e}") from e
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}", hint=f"journalctl -u {UNIT} -n 20")
