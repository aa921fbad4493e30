"""Filtering: what is believed of peers and what they are told, as functions of BIRD's filter language.

    import   never4()  rules…  then what the session trusts        first word wins: a function that accepts or rejects ends the filter
    export   leaving   rules…  announce4()  reflect4()             the end is a reject

`never4` comes before any rule of a person: no BGPFilter makes a node believe that its own blocks are elsewhere, or that a neighbour is:
next hops are looked up among what BIRD knows, and a route to one node's address would take along all that leads to its pods.

A route's priority is the metric that it gets in the kernel.  It crosses iBGP as local preference, 2³¹-1 less the priority as Calico has
it, so that BIRD prefers what the kernel would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

from netloom.bgp.tokens import as_symbol, asn, comment, flag, number, prefix, quoted
from netloom.model.addresses import Prefix
from netloom.model.routing import BgpConfig, Change, Community, FilterRule, Match, RouteFilter, Session, Trust
from netloom.model.showing import shown

GRACEFUL_SHUTDOWN = Community((65535, 0))
"""RFC 8326: who hears it prefers any other way."""
_NOBODYS = {
    4: tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"))),
    6: tuple(map(ip_network, ("::1/128", "fe80::/10", "ff00::/8"))),
}
_FROM_PRIORITY = 2**31 - 1


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
    yield f"    if {_community(GRACEFUL_SHUTDOWN)} ~ bgp_community then bgp_local_pref = 0;  # RFC 8326: that way is about to end"
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
    least, most = _FROM_PRIORITY - LAST_METRIC, _FROM_PRIORITY - FIRST_METRIC
    yield f"    krt_metric = {METRIC};"
    yield f"    if bgp_local_pref >= {least} && bgp_local_pref <= {most} then krt_metric = {_FROM_PRIORITY} - bgp_local_pref;"
    yield "    accept;"
    yield "}"


FIRST_METRIC, LAST_METRIC = 512, 1023
"""Of BIRD's routes in the kernel; the agent's are below and above."""
METRIC = 700


class Rules:
    """The functions that stand for BGPFilters, by filter, family and direction; filters without rules there have none."""

    def __init__(self, filters: Mapping[str, RouteFilter]) -> None:
        self._filters = filters
        self._symbols: dict[str, str] = {}
        for name in sorted(filters):
            base = candidate = as_symbol(name)
            count = 1
            while candidate in self._symbols.values():
                count += 1
                candidate = f"{base}_{count}"
            self._symbols[name] = candidate

    def functions(self, family: int) -> Iterator[str]:
        for name in self._symbols:
            for direction, rules in (
                ("import", self._filters[name].imports.get(family)),
                ("export", self._filters[name].exports.get(family)),
            ):
                if rules:
                    yield comment(f"BGPFilter {name}, {direction}V{family}")
                    yield f"function rules_{self._symbols[name]}_{direction}{family}(bool outside) {{"
                    yield from (f"    {_rule(rule)}" for rule in rules)
                    yield "}"

    def calls(self, session: Session, direction: str, family: int) -> str:
        outside = "true" if session.external else "false"
        found: list[str] = []
        for name in session.filters:
            if name not in self._symbols:
                raise ValueError(f"there is no BGPFilter {shown(name)}")
            each = self._filters[name]
            if (each.imports if direction == "import" else each.exports).get(family):
                found.append(f"rules_{self._symbols[name]}_{direction}{family}({outside}); ")
        return "".join(found)


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
        parts.append(f"bgp_community.add({_community(GRACEFUL_SHUTDOWN)}); ")
        if not session.external:
            parts.append("bgp_local_pref = 0; ")
    parts.append(f"{rules.calls(session, 'export', family)}announce{family}(); ")
    if not session.external and _reflects(config):
        parts.append(f"reflect{family}(); ")
    return f"{{ {''.join(parts)}reject; }}"


def _reflects(config: BgpConfig) -> bool:
    return any(session.reflects is not None for session in config.sessions)


def add_community(value: Community) -> str:
    kind = "bgp_community" if len(value.numbers) == 2 else "bgp_large_community"
    return f"{kind}.add({_community(value)});"


def _community(value: Community) -> str:
    most = {2: 2**16 - 1, 3: 2**32 - 1}.get(len(value.numbers))
    if most is None:
        raise ValueError(f"{shown(str(value))} is not a community: two numbers, or three")
    return f"({', '.join(number(each, 0, most) for each in value.numbers)})"


def _rule(rule: FilterRule) -> str:
    verdict = "accept;" if flag(rule.accept) else "reject;"
    changes = "".join(f"{_change(change)} " for change in rule.changes) if rule.accept else ""
    conditions = list(_conditions(rule))
    body = f"{{ {changes}{verdict} }}" if changes else verdict
    return f"if {' && '.join(conditions)} then {body}" if conditions else f"{changes}{verdict}"


def _conditions(rule: FilterRule) -> Iterator[str]:
    if rule.prefix is not None:
        yield _prefix_condition(rule.prefix, rule.match, rule.lengths)
    elif rule.lengths is not None:
        yield _length_condition(rule.lengths)
    if flag(rule.learned):
        yield "source = RTS_BGP"
    if rule.interface != "":
        yield f"ifname ~ {quoted(rule.interface, 'interface')}"
    if rule.external is not None:
        yield "outside" if flag(rule.external) else "! outside"
    for each in rule.communities:
        kind = "bgp_community" if len(each.numbers) == 2 else "bgp_large_community"
        yield f"{_community(each)} ~ {kind}"
    if rule.path:
        yield f"bgp_path ~ [= {' '.join(asn(each) for each in rule.path)} * =]"
    if rule.priority is not None:
        yield f"bgp_local_pref = {_preference(rule.priority)}"


def _prefix_condition(wanted: Prefix, match: Match, lengths: tuple[int, int] | None) -> str:
    text = prefix(wanted)
    if match in (Match.EQUAL, Match.NOT_EQUAL):
        sign = "=" if match is Match.EQUAL else "!="
        return f"net {sign} {text}" + (f" && {_length_condition(lengths)}" if lengths else "")
    if match not in (Match.IN, Match.NOT_IN):
        raise ValueError(f"{shown(str(match))} is no way to compare prefixes")
    inside = f"{text}+"
    if lengths is not None:
        least, most = lengths
        least = max(least, wanted.prefixlen)
        if most < least:
            raise ValueError(f"no prefix in {text} is {shown(list(lengths))} bits long")
        inside = f"{text}{{{number(least, 0, wanted.max_prefixlen)},{number(most, 0, wanted.max_prefixlen)}}}"
    return f"net ~ [ {inside} ]" if match is Match.IN else f"! (net ~ [ {inside} ])"


def _length_condition(lengths: tuple[int, int]) -> str:
    least, most = lengths
    return f"net.len >= {number(least, 0, 128)} && net.len <= {number(most, 0, 128)}"


def _change(change: Change) -> str:
    parts = []
    if change.add_community is not None:
        parts.append(add_community(change.add_community))
    parts.extend(f"bgp_path.prepend({asn(each)});" for each in reversed(change.prepend))
    if change.priority is not None:
        # a way that is about to end is not made better
        parts.append(
            f"if ! ({_community(GRACEFUL_SHUTDOWN)} ~ bgp_community) then bgp_local_pref = {_preference(change.priority)};"
        )
    return " ".join(parts)


def _preference(priority: int) -> str:
    return str(_FROM_PRIORITY - int(number(priority, 0, _FROM_PRIORITY)))
