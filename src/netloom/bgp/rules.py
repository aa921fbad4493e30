"""Rules: what a person says of routes (BGPFilter), as functions of BIRD's filter language: one for each filter, family and direction.

A route's priority is the metric that it gets in the kernel.  It crosses iBGP as local preference, 2³¹-1 less the priority as Calico has
it, so that BIRD prefers what the kernel would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netloom.bgp.tokens import as_symbol, asn, comment, community, flag, number, prefix, quoted
from netloom.model.addresses import Prefix
from netloom.model.routing import Change, Community, FilterRule, Match, RouteFilter, Session
from netloom.model.showing import shown

GRACEFUL_SHUTDOWN = Community((65535, 0))
"""RFC 8326: who hears it prefers any other way."""
FROM_PRIORITY = 2**31 - 1
"""A local preference is this less the priority."""


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


def add_community(value: Community) -> str:
    return f"{_attribute(value)}.add({community(value)});"


def _attribute(value: Community) -> str:
    """Where a route has such ones."""
    return "bgp_community" if len(value.numbers) == 2 else "bgp_large_community"


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
        yield f"{community(each)} ~ {_attribute(each)}"
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
            f"if ! ({community(GRACEFUL_SHUTDOWN)} ~ bgp_community) then bgp_local_pref = {_preference(change.priority)};"
        )
    return " ".join(parts)


def _preference(priority: int) -> str:
    return str(FROM_PRIORITY - int(number(priority, 0, FROM_PRIORITY)))
