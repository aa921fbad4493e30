"""Other firewalls: who drops what this host forwards, and whether pods get through.

The agent makes a passage through iptables (both variants), Docker, ufw (which is iptables) and firewalld; see `dataplane.foreign`.
Through a table that somebody wrote for nft it makes none, for it cannot know what that table means to keep out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator

from netloom.dataplane.foreign import legacy_rules
from netloom.dataplane.foreign.fates import Fate
from netloom.dataplane.foreign.gate import DOCKER, FORWARD, OWN_CHAIN, gate
from netloom.dataplane.foreign.tables import TABLES as PASSABLE
from netloom.dataplane.nft.driver import TABLES as OWN
from netloom.findings import Finding, Level
from netloom.model.addresses import Prefix
from netloom.model.attachments import PREFIX
from netloom.model.desired import Outer
from netloom.preflight.addresses import outer as outer_address
from netloom.preflight.crossing import outers
from netloom.preflight.facts import Chain, Facts, known

_ANY: tuple[Prefix, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_FORWARDED = "drops what this host forwards"
INPUT = "INPUT"
_START = "systemctl start netloom-agent; without systemd: netloom agent"
_LEGACY = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_SWITCHES = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


def forward(facts: Facts) -> Iterator[Finding]:
    chains = known(facts.chains)
    yield from _tables(chains)
    yield from _iptables(facts, chains)
    yield from _legacy(facts)


def inbound(facts: Facts) -> Iterator[Finding]:
    """Packets of tunnels come to the host itself.  What is dropped only from some is somebody's own affair."""
    address = outer_address(facts)
    alone = facts.cluster and len(facts.cluster.cluster.nodes) == 1
    if address is None or alone:
        return
    for outer, form in outers(facts.settings, facts.cluster, facts.agent).items():
        dropped = f"drops what other nodes send through {form.method.value}, {outer}"
        for chain in known(facts.chains):
            if (address.version, outer) in chain.closed and chain.table not in OWN:
                where = f"{chain.table} {chain.name}"
                if chain.table in PASSABLE:
                    yield _unpassed(facts, where, dropped)
                else:
                    message = f"{dropped} (repair it also where that table is written down)"
                    yield Finding(Level.PROBLEM, message, f"nft insert rule {where} {_match(outer)} accept", where)
        lines = known(facts.legacy).get(address.version)
        drops = f"-P {INPUT} DROP" in (lines or ())
        if lines and legacy_rules.fate(lines, INPUT, outer, drops=drops) is Fate.DROPPED:
            yield _unpassed(facts, f"{_LEGACY[address.version]} {INPUT}", dropped)


def _match(outer: Outer) -> str:
    """In nft's words."""
    return f"{outer.transport} dport {outer.port}" if outer.port else f"meta l4proto {outer.protocol}"


def bridged(facts: Facts) -> Iterator[Finding]:
    """br_netfilter: what pods on one bridge send each other goes through the chains for forwarding, too."""
    closed = [f"{chain.table} {chain.name}" for chain in known(facts.chains) if _is_closed(chain)]
    on = [switch for switch in _SWITCHES if known(facts.switches).get(switch) == "1"]
    if closed and on:
        message = f"is 1: even what pods on one bridge send each other is held up by {', '.join(closed)}"
        yield Finding(Level.WARNING, message, f"sysctl -w {on[0]}=0", on[0])


def _is_closed(chain: Chain) -> bool:
    """It drops what is forwarded, and no passage leads through."""
    return chain.hook == "forward" and chain.drops and not chain.ours and chain.table not in (*OWN, *PASSABLE)


def _tables(chains: Collection[Chain]) -> Iterator[Finding]:
    for chain in filter(_is_closed, chains):
        where = f"{chain.table} {chain.name}"
        rules = (f'insert rule {where} {end} "{PREFIX}*" accept' for end in ("iifname", "oifname"))
        message = (
            "drops what this host forwards, and with it the traffic of pods (repair it also where that table is written down)"
        )
        yield Finding(Level.PROBLEM, message, f"nft '{'; '.join(rules)}'", where)


def _iptables(facts: Facts, chains: Collection[Chain]) -> Iterator[Finding]:
    for table in sorted(PASSABLE):
        here = {chain.name: chain.drops for chain in chains if chain.table == table}
        chosen = gate(here, _pools(facts), docker=DOCKER in here)
        if chosen and OWN_CHAIN not in here:
            yield _unpassed(facts, f"{table} {chosen}", _FORWARDED)


def _legacy(facts: Facts) -> Iterator[Finding]:
    for version, lines in known(facts.legacy).items():
        name = _LEGACY[version]
        if lines is None:
            message = f"filters here, and there is no program {name}: the agent can neither see nor pass it"
            yield Finding(Level.PROBLEM, message, "apt-get install iptables", f"iptables' legacy variant, IPv{version}")
        elif f"-P {FORWARD} DROP" in lines and f"-N {OWN_CHAIN}" not in lines:
            yield _unpassed(facts, f"{name} {FORWARD}", _FORWARDED)


def _unpassed(facts: Facts, where: str, what: str) -> Finding:
    if facts.agent is not None and facts.agent.blocks:
        hint = "netloom status; and the agent's log says why"
        return Finding(Level.PROBLEM, f"{what}, and the agent's passage through it is missing", hint, where)
    return Finding(Level.WARNING, f"{what}; the agent will make a passage through it", _START, where)


def _pools(facts: Facts) -> Collection[Prefix]:
    """Without a cluster to ask: as if there were one."""
    if facts.cluster is None:
        return _ANY
    return [pool.spec.cidr for pool in facts.cluster.cluster.pools.values()]
