"""Rules of iptables' legacy variant, as `iptables -S` prints them, read as far as it takes to tell what becomes of a tunnel's packets from
another node (`fates`).  What is not understood makes a rule one that may apply."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from typing import Final

from netloom.dataplane.foreign.fates import UNKNOWN, Fate, Rule, fate_in
from netloom.model.desired import Outer

_VERDICTS: Final = {
    "ACCEPT": Fate.ACCEPTED,
    "DROP": Fate.DROPPED,
    "REJECT": Fate.DROPPED,
    "RETURN": Fate.THROUGH,
    "QUEUE": UNKNOWN,
    "NFQUEUE": UNKNOWN,
}
_PLAIN: Final = frozenset(("udp", "tcp", "comment", "multiport", "conntrack", "state"))
"""Matches that ask nothing by themselves."""
_PROTOCOLS: Final = {4: ("ipencap",), 6: ("tcp",), 17: ("udp",)}
"""As /etc/protocols may call them."""
_LOOPBACK: Final = ("127.0.0.0/8", "127.0.0.1/32", "::1/128")


def fate(
    listing: Collection[str], chain: str, outer: Outer, *, drops: bool, until: Fate = Fate.NONE, without: tuple[str, ...] = ()
) -> Fate:
    """Of such a packet in this base chain, see `fate_in`; as if nobody jumped to the chains `without`."""
    chains = {line.split()[1] for line in listing if line.startswith("-N ")}

    def rules(name: str) -> Iterator[Rule]:
        for line in listing:
            if line.startswith(f"-A {name} "):
                rule = read(line, outer, chains)
                if rule and rule.chain not in without:
                    yield rule

    return fate_in(chain, rules, drops=drops, until=until)


def read(line: str, outer: Outer, chains: Collection[str]) -> Rule | None:
    """None: it does not apply, or decides nothing."""
    try:
        words = iter(shlex.split(line)[2:])
    except ValueError:
        return Rule(False, UNKNOWN)
    certain, inverted = True, False
    for word in words:
        if word in ("-j", "-g"):
            return _ended(next(words, ""), chains, certain=certain, leaves=word == "-g")
        if word == "!":
            inverted = True
        elif word.startswith("-"):
            holds = _holds(word, words, outer)
            if holds is not None and holds is inverted:
                return None
            certain, inverted = certain and holds is not None, False
    return None


def _ended(target: str, chains: Collection[str], *, certain: bool, leaves: bool) -> Rule | None:
    if target in chains:
        return Rule(certain, chain=target, leaves=leaves)
    return Rule(certain, _VERDICTS[target]) if target in _VERDICTS else None


def _holds(option: str, words: Iterator[str], outer: Outer) -> bool | None:
    """Whether this condition is true; None: nobody knows, and its arguments are left where they are."""
    match option:
        case "-m":
            return True if next(words, "") in _PLAIN else None
        case "--comment":
            next(words, "")
            return True
        case "-p":
            return next(words, "") in (*_PROTOCOLS[outer.protocol], str(outer.protocol), "all")
        case "-i":
            return False if next(words, "") == "lo" else None
        case "-s" | "-d":
            return False if next(words, "") in _LOOPBACK else None
        case "--dport" | "--dports":
            return any(_covers(ports, outer.port) for ports in next(words, "").split(","))
        case "--ctstate" | "--state":
            return "NEW" in next(words, "").split(",")
    return None


def _covers(ports: str, port: int) -> bool:
    low, colon, high = ports.partition(":")
    if not (low or "0").isdigit() or not (high or "65535").isdigit():
        return False
    return int(low or 0) <= port <= int(high or 65535) if colon else int(low or 0) == port
