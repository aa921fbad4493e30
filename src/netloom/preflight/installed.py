"""What was installed, and what the runtime needs besides."""

from __future__ import annotations

from collections.abc import Iterator

from netloom.findings import Finding, Level
from netloom.footprint.files import CONFLIST, PLUGIN
from netloom.preflight.facts import Facts, known

_OTHERS = 0o022


def files(facts: Facts) -> Iterator[Finding]:
    """What `system install` has put is there.  A text that was changed by hand is the user's own affair."""
    for path, state in known(facts.put) or ():
        needed = path.endswith((f"/{PLUGIN}", CONFLIST))
        if state in ("missing", "not executable") or (state == "changed" and path.endswith(f"/{PLUGIN}")):
            consequence = ": no pod gets a network" if needed and state != "changed" else ""
            level = Level.PROBLEM if needed else Level.WARNING
            yield Finding(level, f"is {state}{consequence}", "netloom system install", path)


def runtime(facts: Facts) -> Iterator[Finding]:
    """containerd calls a plugin `loopback` for each pod before ours."""
    found = known(facts.runtime)
    if found.config and "loopback" not in known(facts.plugins):
        message = "has no plugin `loopback`, which containerd calls for every pod"
        yield Finding(Level.WARNING, message, "apt-get install containernetworking-plugins", found.bin_dir)


def directories(facts: Facts) -> Iterator[Finding]:
    """The agent does not start where others may write into what it trusts."""
    for path, owner, mode in known(facts.permissions):
        if owner != 0 or mode & _OTHERS:
            yield Finding(
                Level.PROBLEM,
                "may be written by others, and the agent refuses it",
                f"chown root: {path}; chmod 0700 {path}",
                path,
            )
