"""BGPFilter: which routes a session lets in and out, and what becomes of them.  Calico's fields.

importV4, importV6, exportV4, exportV6: the first rule that matches decides; if none does, the session's own rule

{cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 16, max: 24}, action: Reject}
{communities: {values: [65000:1]}, action: Accept, operations: [{setPriority: {value: 512}}]}
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from netloom.model.addresses import Prefix
from netloom.model.bgp_values import AsNumber, parse_community
from netloom.model.objects import Resource, Spec
from netloom.model.routing import Change, FilterRule, Match, RouteFilter
from netloom.model.validation import check_interface_pattern, within

_RULES = 256  # of each kind in one filter
_PATH = 16
_OPERATIONS = 10
_PRIORITY = (1 << 31) - 2


class Action(enum.Enum):
    ACCEPT = "Accept"
    REJECT = "Reject"


class Source(enum.Enum):
    REMOTE_PEERS = "RemotePeers"


class PeerType(enum.Enum):
    EBGP = "eBGP"
    IBGP = "iBGP"


class PrefixLength(Spec, frozen=True, kw_only=True):
    min: int | None = None
    max: int | None = None


class CommunityMatch(Spec, frozen=True, kw_only=True):
    """A route has to carry all of them."""

    values: tuple[str, ...]


class AddCommunity(Spec, frozen=True, kw_only=True):
    value: str


class PrependASPath(Spec, frozen=True, kw_only=True):
    prefix: tuple[AsNumber, ...]


class SetPriority(Spec, frozen=True, kw_only=True):
    value: int


class Operation(Spec, frozen=True, kw_only=True):
    add_community: AddCommunity | None = None
    prepend_as_path: PrependASPath | None = msgspec.field(default=None, name="prependASPath")
    set_priority: SetPriority | None = None

    def check(self, path: str) -> None:
        said = [part for part in (self.add_community, self.prepend_as_path, self.set_priority) if part is not None]
        if len(said) != 1:
            raise ValueError(f"{path}: says one of addCommunity, prependASPath and setPriority")
        match said[0]:
            case AddCommunity(value=value):
                within(f"{path}.addCommunity.value", parse_community, value)
            case PrependASPath(prefix=prefix) if not 1 <= len(prefix) <= _PATH:
                raise ValueError(f"{path}.prependASPath.prefix: 1 to {_PATH} AS numbers")
            case SetPriority(value=priority):
                _check_priority(priority, f"{path}.setPriority.value")

    @property
    def change(self) -> Change:
        if self.add_community is not None:
            return Change(add_community=parse_community(self.add_community.value))
        if self.prepend_as_path is not None:
            return Change(prepend=self.prepend_as_path.prefix)
        assert self.set_priority is not None  # `check` has seen to it
        return Change(priority=self.set_priority.value)


class BGPFilterRule(Spec, frozen=True, kw_only=True):
    action: Action
    cidr: Prefix | None = None
    match_operator: Match | None = None
    prefix_length: PrefixLength | None = None
    source: Source | None = None
    interface: str = ""
    peer_type: PeerType | None = None
    communities: CommunityMatch | None = None
    as_path_prefix: tuple[AsNumber, ...] = ()
    priority: int | None = None
    operations: tuple[Operation, ...] = ()

    def check(self, version: int, path: str) -> None:
        """As a rule for routes of this family."""
        if self.cidr is not None and self.cidr.version != version:
            raise ValueError(f"{path}.cidr: {self.cidr} is no IPv{version} prefix")
        if (self.cidr is None) != (self.match_operator is None):
            missing = "cidr" if self.cidr is None else "matchOperator"
            raise ValueError(f"{path}.{missing}: is missing; cidr and matchOperator belong together")
        if self.prefix_length is not None:
            self._check_lengths(version, path, self.prefix_length)
        if self.interface:
            check_interface_pattern(self.interface, f"{path}.interface")
        if self.communities is not None:
            if not 1 <= len(self.communities.values) <= _PATH:
                raise ValueError(f"{path}.communities.values: 1 to {_PATH} communities")
            for i, text in enumerate(self.communities.values):
                within(f"{path}.communities.values[{i}]", parse_community, text)
        if len(self.as_path_prefix) > _PATH:
            raise ValueError(f"{path}.asPathPrefix: {_PATH} AS numbers at most")
        if self.priority is not None:
            _check_priority(self.priority, f"{path}.priority")
        if self.operations and self.action is Action.REJECT:
            raise ValueError(f"{path}.operations: nothing becomes of a route that is rejected")
        if len(self.operations) > _OPERATIONS:
            raise ValueError(f"{path}.operations: {_OPERATIONS} at most")
        for i, operation in enumerate(self.operations):
            operation.check(f"{path}.operations[{i}]")

    def _check_lengths(self, version: int, path: str, lengths: PrefixLength) -> None:
        if self.cidr is None:
            raise ValueError(f"{path}.prefixLength: lengths of what? cidr is missing")
        if self.match_operator in (Match.EQUAL, Match.NOT_EQUAL):
            raise ValueError(f"{path}.prefixLength: {self.match_operator.value} says the length already")
        low, high = self._lengths(lengths, self.cidr)
        if not 0 <= low <= high <= self.cidr.max_prefixlen:
            raise ValueError(
                f"{path}.prefixLength: {low} to {high} is no range of lengths; IPv{version} has 0 to {self.cidr.max_prefixlen}"
            )
        if low < self.cidr.prefixlen:
            raise ValueError(f"{path}.prefixLength.min: nothing in {self.cidr} is shorter than /{self.cidr.prefixlen}")

    @staticmethod
    def _lengths(lengths: PrefixLength, cidr: Prefix) -> tuple[int, int]:
        low = cidr.prefixlen if lengths.min is None else lengths.min
        return low, cidr.max_prefixlen if lengths.max is None else lengths.max

    @property
    def rule(self) -> FilterRule:
        """For the calculation."""
        return FilterRule(
            accept=self.action is Action.ACCEPT,
            prefix=self.cidr,
            match=self.match_operator or Match.IN,
            lengths=self._lengths(self.prefix_length, self.cidr) if self.prefix_length and self.cidr else None,
            learned=self.source is Source.REMOTE_PEERS,
            interface=self.interface,
            external=None if self.peer_type is None else self.peer_type is PeerType.EBGP,
            communities=tuple(map(parse_community, self.communities.values)) if self.communities else (),
            path=self.as_path_prefix,
            priority=self.priority,
            changes=tuple(operation.change for operation in self.operations),
        )


class BGPFilterSpec(Spec, frozen=True, kw_only=True):
    import_v4: tuple[BGPFilterRule, ...] = ()
    import_v6: tuple[BGPFilterRule, ...] = ()
    export_v4: tuple[BGPFilterRule, ...] = ()
    export_v6: tuple[BGPFilterRule, ...] = ()

    def __post_init__(self) -> None:
        for field, version, rules in (
            ("importV4", 4, self.import_v4),
            ("importV6", 6, self.import_v6),
            ("exportV4", 4, self.export_v4),
            ("exportV6", 6, self.export_v6),
        ):
            if len(rules) > _RULES:
                raise ValueError(f"spec.{field}: {len(rules)} rules are too many; {_RULES} at most")
            for i, rule in enumerate(rules):
                rule.check(version, f"spec.{field}[{i}]")


class BGPFilter(Resource, frozen=True, kw_only=True, tag="BGPFilter"):
    PLURAL = "bgpfilters"
    spec: BGPFilterSpec = BGPFilterSpec()

    @property
    def value(self) -> RouteFilter:
        spec = self.spec
        return RouteFilter(
            imports={4: _rules(spec.import_v4), 6: _rules(spec.import_v6)},
            exports={4: _rules(spec.export_v4), 6: _rules(spec.export_v6)},
        )


def _rules(rules: Iterable[BGPFilterRule]) -> tuple[FilterRule, ...]:
    return tuple(rule.rule for rule in rules)


def _check_priority(priority: int, path: str) -> None:
    if not 1 <= priority <= _PRIORITY:
        raise ValueError(f"{path}: {priority} is out of range; 1 to {_PRIORITY}")
