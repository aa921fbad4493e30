"""Filtering: what is believed of peers and what they are told, as functions of BIRD's filter language.

    import   never4()  rules…  then what the session trusts        first word wins: a function that accepts or rejects ends the filter
    export   leaving   rules…  announce4()  reflect4()             the end is a reject

`never4` comes before any rule of a person: no BGPFilter makes a node believe that its own blocks are elsewhere, or that a neighbour is:
next hops are looked up among what BIRD knows, and a route to one node's address would take along all that leads to its pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from netloom.bgp.rules import FROM_PRIORITY, GRACEFUL_SHUTDOWN, Rules
from netloom.bgp.tokens import community, flag, prefix
from netloom.model.addresses import Prefix
from netloom.model.routing import BgpConfig, Session, Trust
from netloom.model.showing import shown

_NOBODYS = {
    4: tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"))),
    6: tuple(map(ip_network, ("::1/128", "fe80::/10", "ff00::/8"))),
}
FIRST_METRIC, LAST_METRIC = 512, 1023
"""Of BIRD's routes in the kernel; the agent's are below and above."""
METRIC = 700


def prefix_set(name: str, prefixes: Iterable[Prefix], suffix: str = "") -> list[str]:
    """`define NAME = [ … ];`, a prefix a line; nothing for none: BIRD has no empty set of prefixes."""
    items = [f"    {prefix(each)}{suffix}" for each in prefixes]
    return [f"define {name} = [", ",\n".join(items), "];"] if items else []


def of_family(prefixes: Iterable[Prefix], family: int) -> list[Prefix]:
    return [each for each in prefixes if each.version == family]


def sets(config: BgpConfig, family: int) -> list[str]:
    return [
        *prefix_set(f"OWN{family}", of_family(config.own, family), "+"),
        *prefix_set(f"POOLS{family}", of_family(config.pools, family), "+"),
        *prefix_set(f"PLAIN{family}", of_family(config.plain, family), "+"),
        *prefix_set(f"NEIGHBOURS{family}", of_family(config.neighbours, family), "+"),
        *prefix_set(f"TUNNELLED{family}", of_family(config.tunnelled, family), "+"),
        *prefix_set(f"LINKS{family}", of_family(config.subnets, family), "+"),
        *prefix_set(f"NOBODYS{family}", _NOBODYS[family], "+"),
    ]


def functions(config: BgpConfig, family: int) -> Iterator[str]:
    pools = bool(of_family(config.pools, family))
    yield f"function never{family}() {{"
    if of_family(config.own, family):
        yield f"    if net ~ OWN{family} then reject;  # this node's own blocks"
    if of_family(config.subnets, family):
        but = f" && ! (net ~ POOLS{family})" if pools else ""
        yield f"    if net ~ LINKS{family}{but} then reject;  # who is on our links is found there"
    yield f"    if net ~ NOBODYS{family} then reject;"
    yield f"    if {community(GRACEFUL_SHUTDOWN)} ~ bgp_community then bgp_local_pref = 0;  # RFC 8326: that way is about to end"
    yield "}"
    yield f"function pools{family}() {{"
    if pools:
        yield f"    if net ~ POOLS{family} then accept;"
    yield "    reject;"
    yield "}"
    yield f"function announce{family}() {{"
    if not flag(config.withdrawn):
        yield f'    if proto = "own{family}" then accept;'
    yield "}"
    if _reflects(config):
        yield f"function reflect{family}() {{"
        if pools:
            yield f"    if source = RTS_BGP && net ~ POOLS{family} then accept;"
        yield "}"


def to_kernel(config: BgpConfig, family: int) -> Iterator[str]:
    """The filter before the kernel: routes that peers told, where they lead out of an uplink and are not the agent's business."""
    yield f"filter to_kernel{family} {{"
    yield f'    if proto = "reach{family}" then {{ krt_metric = {METRIC}; accept; }}'
    yield '    if source != RTS_BGP || dest != RTD_UNICAST || ifname ~ "loom*" then reject;'
    if of_family(config.pools, family):
        yield f"    if net ~ POOLS{family} then {{  # others of the cluster's pods: tunnels are the agent's"
        allowed = [f"net ~ PLAIN{family}"] if of_family(config.plain, family) else []
        subnets = of_family(config.subnets, family)
        if of_family(config.neighbours, family) and subnets:
            # not a set: `bgp_next_hop ~ [ PREFIX+ ]` never holds in BIRD 2.0
            near = " || ".join(f"bgp_next_hop ~ {prefix(each)}" for each in subnets)
            far = f" && ! (net ~ TUNNELLED{family})" if of_family(config.tunnelled, family) else ""
            allowed.append(f"(net ~ NEIGHBOURS{family}{far} && ({near}))")
        yield f"        if ! ({' || '.join(allowed) or 'false'}) then reject;"
        yield "    }"
    least, most = FROM_PRIORITY - LAST_METRIC, FROM_PRIORITY - FIRST_METRIC
    yield f"    krt_metric = {METRIC};"
    yield f"    if bgp_local_pref >= {least} && bgp_local_pref <= {most} then krt_metric = {FROM_PRIORITY} - bgp_local_pref;"
    yield "    accept;"
    yield "}"


def import_filter(session: Session, rules: Rules, family: int) -> str:
    match session.trust:
        case Trust.POOLS:
            rest = f"pools{family}();"
        case Trust.ANYTHING:
            rest = "accept;"
        case _:
            raise ValueError(f"{shown(str(session.trust))} is no kind of trust")
    return f"{{ never{family}(); {rules.calls(session, 'import', family)}{rest} }}"


def export_filter(config: BgpConfig, session: Session, rules: Rules, family: int) -> str:
    parts = []
    if flag(config.draining):
        parts.append(f"bgp_community.add({community(GRACEFUL_SHUTDOWN)}); ")
        if not session.external:
            parts.append("bgp_local_pref = 0; ")
    parts.append(f"{rules.calls(session, 'export', family)}announce{family}(); ")
    if not session.external and _reflects(config):
        parts.append(f"reflect{family}(); ")
    return f"{{ {''.join(parts)}reject; }}"


def _reflects(config: BgpConfig) -> bool:
    return any(session.reflects is not None for session in config.sessions)
