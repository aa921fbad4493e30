"""What becomes of a tunnel's outer packets in somebody else's chains, as far as it can be told.

Of that packet it is known that it is UDP to the tunnel's port (or what else an `Outer` says), that no connection was there before it
(answers come to the same port, so there never is one), and that it does not come in by `lo`.  So of a rule's conditions some hold, some
do not, and of the rest (addresses, interfaces, rates) it is said that they may.  The answer is therefore all ends that it may take: a
passage is made where it may be dropped; an alarm is raised only where nothing else can become of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Fate(enum.Flag):
    """THROUGH: it comes out at the end of the chain, where in a base chain the policy waits."""

    NONE = 0
    ACCEPTED = 1
    DROPPED = 2
    THROUGH = 4


UNKNOWN = Fate.ACCEPTED | Fate.DROPPED


class Rule(NamedTuple):
    """One whose conditions may hold; `certain`: do.  Then comes `fate`, or what becomes of it in `chain`; `leaves`: and not back."""

    certain: bool
    fate: Fate = Fate.NONE
    chain: str = ""
    leaves: bool = False


Rules = Callable[[str], Iterable[Rule]]
"""Those of a chain, in their order."""


def fate_in(chain: str, rules: Rules, *, drops: bool, until: Fate = Fate.NONE) -> Fate:
    """Of a base chain; `drops`: by its policy.  Once `until` is among the ends, the rest does not matter: chains may be long."""
    found = _fate(chain, rules, until, {})
    if Fate.THROUGH not in found:
        return found
    return found & UNKNOWN | (Fate.DROPPED if drops else Fate.ACCEPTED)


def _fate(chain: str, rules: Rules, until: Fate, known: dict[str, Fate]) -> Fate:
    if chain in known:
        return known[chain]
    known[chain] = Fate.THROUGH  # for chains that were changed into a ring while they were read
    found = known[chain] = _walk(chain, rules, until, known)
    return found


def _walk(chain: str, rules: Rules, until: Fate, known: dict[str, Fate]) -> Fate:
    ends = Fate.NONE
    for rule in rules(chain):
        fate = _fate(rule.chain, rules, until, known) if rule.chain else rule.fate
        back = bool(rule.chain) and not rule.leaves and Fate.THROUGH in fate
        ends |= fate & UNKNOWN if back else fate
        if (rule.certain and not back) or ends & until:
            return ends
    return ends | Fate.THROUGH
